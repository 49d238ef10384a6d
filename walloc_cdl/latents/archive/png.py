"""PNG: one 8-bit gray plane, metadata in an iTXt chunk before the pixels (PNG, third edition, 11.3.3)."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL.PngImagePlugin import PngInfo

from walloc_cdl.latents.archive.picture import PictureError, PictureHeader, pil_image, pil_pixels, require_text_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORD = "walloc_cdl"

_ITXT_START = KEYWORD.encode() + b"\0\0\0\0\0"
"""The keyword, the flag for no compression, and empty language and translated keyword."""


def encode(picture: np.ndarray, text: bytes | None) -> bytes:
    """Encode uint8 (H, W, 1), see `Container.encode`."""
    chunks = PngInfo()
    if text is not None:
        chunks.add_itxt(KEYWORD, text.decode())
    buffer = io.BytesIO()
    pil_image(picture).save(buffer, "PNG", optimize=True, pnginfo=chunks)
    return buffer.getvalue()


def read_header(data: bytes) -> PictureHeader:
    """See `Container.read_header`."""
    if data[8:16] != b"\0\0\0\x0dIHDR" or len(data) < 33:
        raise PictureError("a PNG must begin with its IHDR chunk")
    width, height, *pixel_format = struct.unpack(">IIBBBBB", data[16:29])
    if pixel_format != [8, 0, 0, 0, 0]:
        raise PictureError(
            f"a PNG of bit depth {pixel_format[0]} and color type {pixel_format[1]}, "
            "expected 8-bit gray, not interlaced"
        )
    return PictureHeader(width, height, 1, _find_text(data))


def decode(data: bytes, header: PictureHeader) -> np.ndarray:
    """See `Container.decode`."""
    return pil_pixels(data, "PNG", header)


def _find_text(data: bytes) -> bytes | None:
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            raise PictureError(f"the chunk at byte {position} ends beyond the file of {len(data)} bytes")
        if kind == b"IDAT":
            return None
        content = data[position + 8 : end - 4]
        if kind == b"iTXt" and content.startswith(_ITXT_START):
            require_text_size(len(content))
            if zlib.crc32(kind + content) != int.from_bytes(data[end - 4 : end], "big"):
                raise PictureError("the chunk of the metadata fails its CRC")
            return content[len(_ITXT_START) :]
        position = end
    raise PictureError("a PNG without pixels")
