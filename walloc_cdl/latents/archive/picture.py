"""Code that all containers share: the header of a picture, the error for invalid files, and the calls of PIL."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from walloc_cdl.errors import one_line

MAX_TEXT_BYTES = 1 << 16
"""The metadata that this package writes take about 500 bytes."""

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""PIL's modes by number of planes."""


class PictureError(Exception):
    """A picture file is invalid; the caller adds the file's name and the remedy."""


@dataclass(frozen=True)
class PictureHeader:
    """Size and metadata of a picture, read before any pixel is decoded."""

    width: int
    height: int
    planes: int
    text: bytes | None = None
    """The archive's metadata, unchecked; None if there are none."""


def pil_image(picture: np.ndarray) -> Image.Image:
    """Return the PIL image of uint8 (H, W, planes)."""
    height, width, planes = picture.shape
    return Image.frombytes(MODES[planes], (width, height), np.ascontiguousarray(picture).tobytes())


def pil_pixels(data: bytes, kind: str, header: PictureHeader) -> np.ndarray:
    """Decode a file of PIL's format `kind` to uint8 (H, W, planes); `PictureError` if it contradicts the header."""
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if image.size != (header.width, header.height) or image.mode != MODES[header.planes]:
                raise PictureError(
                    f"pixels are {image.width}x{image.height} {image.mode}, "
                    f"expected {header.width}x{header.height} {MODES[header.planes]} as in the header"
                )
            pixels = np.asarray(image)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # PIL's decoders raise errors of any type for broken files
        raise PictureError(f"pixels cannot be decoded ({one_line(error, 120)})") from error
    return pixels.reshape(header.height, header.width, header.planes)


def require_text_size(num_bytes: int) -> None:
    """Raise `PictureError` for metadata that are too long to be an archive's."""
    if num_bytes > MAX_TEXT_BYTES:
        raise PictureError(f"metadata of {num_bytes} bytes, expected at most {MAX_TEXT_BYTES}")
