"""Lossless WebP: three planes, metadata in the EXIF chunk (RFC 9649)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np

from walloc_cdl.latents.archive.exif import exif_block, exif_text
from walloc_cdl.latents.archive.picture import PictureError, PictureHeader, pil_image, pil_pixels, require_text_size

MAX_SIDE = 16_383


def encode(picture: np.ndarray, text: bytes | None) -> bytes:
    """Encode uint8 (H, W, 3), see `Container.encode`."""
    buffer = io.BytesIO()
    exif = {} if text is None else {"exif": exif_block(text)}
    pil_image(picture).save(buffer, "WEBP", lossless=True, quality=100, method=4, **exif)
    return buffer.getvalue()


def read_header(data: bytes) -> PictureHeader:
    """See `Container.read_header`; lossy and animated files are refused."""
    chunks = dict(_chunks(data))
    if b"VP8L" not in chunks or b"ANIM" in chunks:
        raise PictureError("not one lossless WebP image, so its pixels are not codes")
    stream = chunks[b"VP8L"]
    if len(stream) < 5 or stream[0] != 0x2F:
        raise PictureError("the lossless stream does not begin with its signature")
    sizes = int.from_bytes(stream[1:5], "little")
    width, height = (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    exif = chunks.get(b"EXIF", b"")
    require_text_size(len(exif))
    return PictureHeader(width, height, 3, exif_text(exif))


def decode(data: bytes, header: PictureHeader) -> np.ndarray:
    """See `Container.decode`; the decoder receives only the stream whose size was checked."""
    stream = dict(_chunks(data))[b"VP8L"]
    chunk = struct.pack("<4sI", b"VP8L", len(stream)) + stream + b"\0" * (len(stream) % 2)
    return pil_pixels(struct.pack("<4sI4s", b"RIFF", len(chunk) + 4, b"WEBP") + chunk, "WEBP", header)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk; `PictureError` for a chunk beyond the file or a repeated kind."""
    seen = set()
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[position : position + 8])
        start, end = position + 8, position + 8 + length
        if end > len(data):
            raise PictureError(f"the chunk at byte {position} ends beyond the file of {len(data)} bytes")
        if kind in seen:
            raise PictureError(f"the chunk at byte {position} repeats the kind of an earlier one")
        seen.add(kind)
        yield kind, data[start:end]
        position = end + length % 2
