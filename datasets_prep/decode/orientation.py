"""Applies the EXIF orientation of images."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_FLIPS = {2: "x", 3: "xy", 4: "y", 6: "x", 7: "xy", 8: "y"}
"""Maps EXIF orientations to the axes of the upright image that are flipped."""

_SWAPPED = (5, 6, 7, 8)
"""EXIF orientations whose upright image has width and height exchanged."""

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def apply_orientation(image: Image.Image, decoded: Image.Image) -> Image.Image:
    """Return `decoded`, the pixels of `image`, transposed by the EXIF orientation of `image`."""
    # read after decoding, because PIL transposes TIFF files while it decodes them, and then resets the orientation
    transpose = _TRANSPOSES.get(_orientation(image))
    return decoded.transpose(transpose) if transpose is not None else decoded


def oriented(image: Image.Image, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels (H, W, …) of `image`, transposed by its EXIF orientation; a view."""
    orientation = _orientation(image)
    flips = _FLIPS.get(orientation, "")
    if orientation in _SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if "y" in flips else 1, :: -1 if "x" in flips else 1]


def oriented_box(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Return the position of a box (0, 0, w, h) of `image` in the upright image, whose (width, height) is `size`."""
    orientation = _orientation(image)
    width, height = box[:1:-1] if orientation in _SWAPPED else box[2:]
    flips = _FLIPS.get(orientation, "")
    left = size[0] - width if "x" in flips else 0
    top = size[1] - height if "y" in flips else 0
    return left, top, left + width, top + height


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data does not affect the pixels
        return 1
