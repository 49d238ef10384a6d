"""Lossless JPEG XL: one or three planes, metadata in an Exif box before the pixels (ISO/IEC 18181-2).

libjxl encodes and decodes, through `imagecodecs`, an optional dependency.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from walloc_cdl.errors import CallError, one_line
from walloc_cdl.latents.archive.exif import exif_block, exif_text
from walloc_cdl.latents.archive.picture import PictureError, PictureHeader, require_text_size

STREAM_SIGNATURE = b"\xff\x0a"
BOXES_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
_FILE_TYPE = struct.pack(">I4s4sI4s", 20, b"ftyp", b"jxl ", 0, b"jxl ")

EFFORT = 7
"""Effort from 1 to 10: 7 is as fast as lossless WebP; 9 saves 3 to 4 % more and takes four times as long."""

_HEADER_BYTES = 32
"""More than size and metadata take, up to the number of extra channels."""
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def is_available() -> bool:
    """Return whether `imagecodecs` is installed."""
    return importlib.util.find_spec("imagecodecs") is not None


def encode(picture: np.ndarray, text: bytes | None) -> bytes:
    """Encode uint8 (H, W, 1 or 3): as boxes with metadata, or as a bare codestream without."""
    pixels = np.ascontiguousarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    stream = bytes(_imagecodecs().jpegxl_encode(pixels, lossless=True, effort=EFFORT, usecontainer=False, numthreads=1))
    if text is None:
        return stream
    exif = b"\0\0\0\0" + exif_block(text)  # the first four bytes are the offset of Exif in the box
    return BOXES_SIGNATURE + _FILE_TYPE + _box(b"Exif", exif) + _box(b"jxlc", stream)


def read_header(data: bytes) -> PictureHeader:
    """See `Container.read_header`; the number of planes is -1, since only the decoder knows it.

    Animations, previews, alpha and other extra channels, and samples of other than 8 bits are refused: the decoder
    allocates all of them, in any number, before anything can be compared with the size.
    """
    stream, exif = _split(data)
    width, height = _still_size(stream)
    return PictureHeader(width, height, -1, exif_text(exif[4:]))


def decode(data: bytes, header: PictureHeader) -> np.ndarray:
    """See `Container.decode`."""
    stream, _ = _split(data)
    codecs = _imagecodecs()
    try:
        pixels = codecs.jpegxl_decode(stream, index=0, numthreads=1)
    except MemoryError:
        raise
    except Exception as error:  # the package's own classes and others
        raise PictureError(f"pixels cannot be decoded ({one_line(error, 120)})") from error
    planes = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.dtype != np.uint8 or pixels.shape[:2] != (header.height, header.width) or planes not in (1, 3):
        raise PictureError(
            f"pixels are {pixels.dtype} {list(pixels.shape)}, "
            f"expected uint8 {[header.height, header.width]}, 1 or 3 planes"
        )
    return pixels.reshape(header.height, header.width, planes)


def _imagecodecs() -> ModuleType:
    if not is_available():
        raise CallError(
            "JPEG XL needs the package imagecodecs, which is not installed; `pip install 'walloc-cdl[jxl]'`, "
            "or choose png, webp or tiff"
        )
    return importlib.import_module("imagecodecs")


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Return the codestream and the content of the Exif box, which is empty if there is none."""
    if data.startswith(STREAM_SIGNATURE):
        return data, b""
    contents: dict[bytes, bytes] = {}
    for kind, content in _boxes(data):
        if kind in contents:
            raise PictureError("a JPEG XL box occurs twice")
        contents[kind] = content
    if b"jxlc" not in contents:
        raise PictureError("a JPEG XL file without a codestream in one piece (box jxlc)")
    exif = contents.get(b"Exif", b"")
    require_text_size(len(exif))
    return contents[b"jxlc"], exif


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + length if length else len(data)  # 0: up to the end
        if length in range(1, 8) or end > len(data):
            raise PictureError(f"the box at byte {position} ends beyond the file of {len(data)} bytes")
        yield kind, data[position + 8 : end]
        position = end


def _still_size(stream: bytes) -> tuple[int, int]:
    """Return width and height of one 8-bit picture without extra channels (ISO/IEC 18181-1, SizeHeader and
    ImageMetadata); raises `PictureError` for anything else.
    """
    if not stream.startswith(STREAM_SIGNATURE) or len(stream) < 12:
        raise PictureError("a JPEG XL codestream must begin with its signature")
    bits = _BitReader(int.from_bytes(stream[2 : 2 + _HEADER_BYTES], "little"))
    sizes = _sizes(bits)
    if bits.read(1):  # all metadata have their defaults
        return sizes
    if bits.read(1):
        bits.read(3)  # the orientation
        if bits.read(1):
            _sizes(bits)  # the intrinsic size
        if bits.read(1) or bits.read(1):
            raise PictureError("a JPEG XL animation, or one with a preview, so its pixels are not codes")
    is_float, depth = bits.read(1), _depth(bits)
    bits.read(1)  # whether 16 bits are enough for buffers
    if is_float or depth != 8 or bits.read(2):
        raise PictureError("a JPEG XL file of other than 8 bits, or with extra channels, so its pixels are not codes")
    return sizes


def _sizes(bits: _BitReader) -> tuple[int, int]:
    small = bits.read(1)
    height = _side(bits, small)
    ratio = _RATIOS.get(bits.read(3))
    width = height * ratio[0] // ratio[1] if ratio else _side(bits, small)
    return width, height


def _depth(bits: _BitReader) -> int:
    """Return the bits of an integer sample; the value has no meaning for floats."""
    kind = bits.read(2)
    return (8, 10, 12)[kind] if kind < 3 else bits.read(6) + 1


class _BitReader:
    """Reads the bits of an integer, lowest first."""

    def __init__(self, number: int) -> None:
        self.number = number

    def read(self, count: int) -> int:
        value = self.number & ((1 << count) - 1)
        self.number >>= count
        return value


def _side(bits: _BitReader, small: int) -> int:
    return 8 * (bits.read(5) + 1) if small else bits.read(_SIDE_BITS[bits.read(2)]) + 1
