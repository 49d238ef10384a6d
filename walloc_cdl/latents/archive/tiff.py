"""TIFF: four planes as CMYK, Deflate, metadata in ImageDescription (TIFF 6.0).

Strips are decompressed here and not by libtiff, which bypasses Python and writes its messages to standard error.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION, ImageFileDirectory_v2

from walloc_cdl.latents.archive.picture import PictureError, PictureHeader, pil_image, require_text_size

PLANES = 4
UNCOMPRESSED, DEFLATE, OLD_DEFLATE = 1, 8, 32946
"""TIFF's numbers of the supported compressions."""

_BITS, _COMPRESSION, _STRIP_OFFSETS, _ROWS_IN_STRIP, _STRIP_BYTES, _PLANAR, _PREDICTOR = (
    258,
    259,
    273,
    278,
    279,
    284,
    317,
)


def encode(picture: np.ndarray, text: bytes | None) -> bytes:
    """Encode uint8 (H, W, 4), see `Container.encode`."""
    tags = ImageFileDirectory_v2()
    if text is not None:
        tags[IMAGEDESCRIPTION] = text
    buffer = io.BytesIO()
    pil_image(picture).save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo=tags)
    return buffer.getvalue()


def read_header(data: bytes) -> PictureHeader:
    """See `Container.read_header`; PIL reads the directory, but no pixel."""
    (width, height), mode, tags = _directory(data)
    compression = tags.get(_COMPRESSION, UNCOMPRESSED)
    pixel_format = mode, tags.get(_BITS), tags.get(_PLANAR, 1), tags.get(_PREDICTOR, 1)
    supported = UNCOMPRESSED, DEFLATE, OLD_DEFLATE
    if pixel_format != ("CMYK", (8,) * PLANES, 1, 1) or compression not in supported:
        raise PictureError(f"a TIFF of mode {mode} and compression {compression}, expected 8-bit CMYK with Deflate")
    text = tags.get(IMAGEDESCRIPTION)
    if not isinstance(text, str):
        return PictureHeader(width, height, PLANES)
    require_text_size(len(text))
    return PictureHeader(width, height, PLANES, text.encode("latin-1", "replace"))


def decode(data: bytes, header: PictureHeader) -> np.ndarray:
    """See `Container.decode`."""
    _, _, tags = _directory(data)
    rows_in_strip = tags.get(_ROWS_IN_STRIP, header.height)
    offsets, counts = tags.get(_STRIP_OFFSETS), tags.get(_STRIP_BYTES)
    if not isinstance(rows_in_strip, int) or rows_in_strip < 1 or not _are_counts(offsets) or not _are_counts(counts):
        raise PictureError("the strips of the TIFF are not described by integers")
    if not len(offsets) == len(counts) == -(-header.height // rows_in_strip):
        raise PictureError(f"{len(offsets)} strips of {rows_in_strip} rows for a height of {header.height}")
    row_bytes = PLANES * header.width
    pixels = np.empty((header.height, row_bytes), np.uint8)
    for number, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        rows = pixels[number * rows_in_strip : (number + 1) * rows_in_strip]
        strip = _decompress(data[offset : offset + count], tags.get(_COMPRESSION, UNCOMPRESSED), rows.size)
        rows[:] = np.frombuffer(strip, np.uint8).reshape(rows.shape)
    return pixels.reshape(header.height, header.width, PLANES)


def _directory(data: bytes) -> tuple[tuple[int, int], str, dict[int, Any]]:
    """Return size, PIL's mode and tags of the first image."""
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            return image.size, image.mode, dict(image.tag_v2)
    except MemoryError:
        raise
    except Exception as error:  # PIL's parser raises errors of any type for broken files
        raise PictureError(f"the TIFF directory cannot be read ({type(error).__name__})") from error


def _are_counts(values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, int) and value >= 0 for value in values)


def _decompress(strip: bytes, compression: int, num_bytes: int) -> bytes:
    """Return the pixels of a strip; at most one byte more than expected is decompressed."""
    if compression != UNCOMPRESSED:
        try:
            strip = zlib.decompressobj().decompress(strip, num_bytes + 1)
        except zlib.error as error:
            raise PictureError(f"a strip cannot be decompressed ({error})") from error
    if len(strip) != num_bytes:
        raise PictureError(f"a strip of {len(strip)} bytes, expected {num_bytes}")
    return strip
