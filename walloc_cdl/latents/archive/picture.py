"""What all containers share: a picture's header, and the error that says what is wrong with a file."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from walloc_cdl.errors import one_line

MAX_TEXT_BYTES = 1 << 16
"""Metadata of ours take about 500 bytes."""

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""PIL's modes by number of planes."""


class PictureError(Exception):
    """What is wrong with a picture file, in words; the caller adds which file, and the remedy."""


@dataclass(frozen=True)
class PictureHeader:
    """What is known of a picture before any pixel is decoded."""

    width: int
    height: int
    planes: int
    text: bytes | None = None
    """Our metadata, unchecked; None where there are none."""


def pil_image(picture: np.ndarray) -> Image.Image:
    """The image of uint8 (H, W, planes)."""
    height, width, planes = picture.shape
    return Image.frombytes(MODES[planes], (width, height), np.ascontiguousarray(picture).tobytes())


def pil_pixels(data: bytes, kind: str, header: PictureHeader) -> np.ndarray:
    """uint8 (H, W, planes) of a file of PIL's format `kind`; `PictureError` unless it is what the header says."""
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if image.size != (header.width, header.height) or image.mode != MODES[header.planes]:
                raise PictureError(
                    f"pixels are {image.width}x{image.height} {image.mode}, "
                    f"the header says {header.width}x{header.height} {MODES[header.planes]}"
                )
            pixels = np.asarray(image)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # on broken files PIL's decoders raise whatever their parsing stumbled over
        raise PictureError(f"pixels cannot be decoded ({one_line(error, 120)})") from error
    return pixels.reshape(header.height, header.width, header.planes)


def require_text_size(num_bytes: int) -> None:
    """Raise `PictureError` for metadata too long to be ours."""
    if num_bytes > MAX_TEXT_BYTES:
        raise PictureError(f"metadata of {num_bytes} bytes, expected at most {MAX_TEXT_BYTES}")
