"""The orientation of an image: how it is to be turned, as its EXIF says."""

from __future__ import annotations

from PIL import ExifTags, Image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_FLIPS = {2: "x", 3: "xy", 4: "y", 6: "x", 7: "xy", 8: "y"}
"""By orientation, the axes of the upright image that are flipped."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, decoded: Image.Image) -> Image.Image:
    """`decoded`, the pixels of `image`, turned as the EXIF of `image` says."""
    turn = _TURNS.get(_orientation(image))  # after decoding, for which PIL turns TIFF files itself, and says so here
    return decoded.transpose(turn) if turn is not None else decoded


def upright_box(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Where a box at the upper left of `image`, (0, 0, w, h), lies when it was turned, and has this size since."""
    orientation = _orientation(image)
    width, height = box[:1:-1] if orientation in (5, 6, 7, 8) else box[2:]
    flips = _FLIPS.get(orientation, "")
    left = size[0] - width if "x" in flips else 0
    top = size[1] - height if "y" in flips else 0
    return left, top, left + width, top + height


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are whole all the same
        return 1
