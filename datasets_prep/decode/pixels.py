"""Decodes image files to uint8 pixels: the only definition of the pixels of a source image.

- The first frame or page is used. Its EXIF orientation is applied; an unreadable orientation is ignored.
- 16-bit values, gray or color, are reduced to their high byte (value // 256). Floating-point images and 32-bit
  integers are refused, since they have no defined range.
- Embedded color profiles are ignored, or converted to sRGB (`datasets_prep.decode.icc`). CMYK without a profile becomes
  RGB by PIL's conversion; in JPEG files it is inverted, as Adobe writes it, with or without Adobe's marker.
- Transparency is composited on white, as viewers show it.
- Color becomes gray by PIL's luma (ITU-R 601); gray becomes color by repeating the channel.
- The result is resized and cropped or padded (`datasets_prep.decode.resize_crop`).

docs/pixels.md lists the result for every kind of file. Workers import this module, so it imports no more than numpy,
numba and PIL.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image

from datasets_prep.decode.color import eight_bit_color
from datasets_prep.decode.pil_quirks import refuse_pil_quirks
from datasets_prep.decode.resize_crop import Box, deciding_side, square
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.stored import BadSignalError, Stored, failure_reason
from walloc_cdl.errors import CallError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The decoded formats. PIL supports more, including formats that start other programs (EPS)."""

MAX_ASPECT = 20
"""Limit for the ratio of the longer to the shorter side, checked before resizing: 20,000 × 1, resized to a shorter side
of 256, has 1.3 gigapixels."""

MAX_PIXELS = 89_478_485
"""Limit for the number of pixels: PIL's own limit (a quarter of a gigabyte of RGB), at which PIL only warns."""

DECODERS = ("pil", "pil-scaled")

SCALED_MARGIN = 2
"""Scaled decoding gives at least this many times the required size, so that the resize kernel determines which
frequencies are kept."""

_FLIPS = {2: "x", 3: "xy", 4: "y", 6: "x", 7: "xy", 8: "y"}
"""Maps EXIF orientations to the axes of the upright image that are flipped."""

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise Python prints PIL's log messages


class BadImageError(BadSignalError):
    """An image cannot be used."""


def load_pixels(
    data: Stored,
    size: int,
    channels: int,
    *,
    kernel: str = "lanczos",
    crop: str = "center",
    profiles: str = "ignore",
    decoder: str = "pil",
) -> np.ndarray:
    """Decode an image to pixels uint8 (channels, size, size), resized and cropped or padded, see `resize_crop.square`.

    `profiles`: handling of embedded color profiles, `ignore` or `srgb`. `decoder`: `pil`, or `pil-scaled`, which
    decodes JPEG files at a half, a quarter or an eighth of their size (libjpeg's scaled inverse transform), as long as
    the side that is resized to `size` remains at least `SCALED_MARGIN` · `size` long.

    Raises `BadImageError` for anything except a complete image within `MAX_PIXELS` and `MAX_ASPECT`.
    """
    with _opened(data) as image:
        _check_shape(image)
        box = _decode_scaled(image, SCALED_MARGIN * size, crop) if decoder == "pil-scaled" else None
        upright = _upright(image, channels, profiles)
        box = box and _transposed_box(box, upright.size, _orientation(image))
        return square(upright, size, kernel, crop, box=box)


@contextmanager
def upright_image(data: Stored, channels: int, profiles: str = "ignore") -> Iterator[Image.Image]:
    """Open an image upright, in PIL's mode L or RGB.

    Raises `BadImageError` as `load_pixels` does; errors raised inside of the `with` block become `BadImageError`, too.
    """
    with _opened(data) as image:
        _check_shape(image)
        yield _upright(image, channels, profiles)


def load_native(data: Stored, channels: int, multiple: int, *, profiles: str = "ignore") -> np.ndarray:
    """Decode an image to pixels uint8 (channels, H, W) at its own size, center-cropped to multiples of `multiple`.

    Raises `BadImageError` as `load_pixels` does, and for images smaller than `multiple`.
    """
    with _opened(data) as image:
        _check_shape(image)
        upright = _upright(image, channels, profiles)
        width, height = (side - side % multiple for side in upright.size)
        if not width or not height:
            raise BadImageError(f"{upright.width}×{upright.height} pixels, smaller than the stride {multiple}")
        left, top = (upright.width - width) // 2, (upright.height - height) // 2
        return channels_first(upright.crop((left, top, left + width, top + height)))


def load_whole(data: Stored, channels: int, *, profiles: str = "ignore") -> np.ndarray:
    """Decode an image of any aspect ratio, within `MAX_PIXELS`, to pixels uint8 (channels, H, W), without cropping.

    Raises `BadImageError` for anything except a complete image.
    """
    with _opened(data) as image:
        _check_size(image)
        return channels_first(_upright(image, channels, profiles))


def image_mode(data: Stored) -> str:
    """Return PIL's name of the stored pixel format, from the header alone; raises `BadImageError` if unreadable."""
    with _opened(data) as image:
        return image.mode


@contextmanager
def _opened(data: Stored) -> Iterator[Image.Image]:
    """Open an image without decoding it; exceptions from decoding in the `with` block become `BadImageError`."""
    try:
        encoded = read_stored(data)
        if not encoded:
            raise BadImageError("empty file")
        Image.init()
        formats = [name for name in FORMATS if name in Image.OPEN]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this module refuses or corrects what PIL warns about
            with Image.open(io.BytesIO(encoded), formats=formats) as image:
                refuse_pil_quirks(image, encoded)
                yield image
    except (BadImageError, CallError, MemoryError):
        raise
    except BadSignalError as error:
        raise BadImageError(str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise BadImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(_too_large()) from error
    except Exception as error:  # PIL's decoders raise exceptions of any type for broken files
        raise BadImageError(failure_reason(error)) from error


def _too_large() -> str:
    return f"more than {MAX_PIXELS:,} pixels"


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if not width or not height:
        raise BadImageError("no pixels")
    if width * height > MAX_PIXELS:
        raise BadImageError(_too_large())


def _check_shape(image: Image.Image) -> None:
    _check_size(image)
    width, height = image.size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImageError(f"{width}×{height} pixels, more than {MAX_ASPECT} times as long as wide")


def _upright(image: Image.Image, channels: int, profiles: str) -> Image.Image:
    """Convert to mode L or RGB and apply the EXIF orientation."""
    if channels not in (1, 3):
        raise CallError(f"{channels} channels; image files give 1 (gray) or 3 (RGB)")
    flat = eight_bit_color(image, channels, profiles)
    # read after decoding, because PIL transposes TIFF files while it decodes them, and then resets the orientation
    transpose = _TRANSPOSES.get(_orientation(image))
    return flat.transpose(transpose) if transpose is not None else flat


def _decode_scaled(image: Image.Image, size: int, crop: str) -> Box | None:
    """Make PIL decode a JPEG file scaled, with a deciding side of at least `size`.

    Returns the part of the result that the image covers: sides are rounded up, so that the last pixel lies partly
    outside. Returns None if the size does not change.
    """
    sides = tuple(max(1, int(size * side // deciding_side(image.size, crop))) for side in image.size)
    _, box = image.draft(None, sides) or (None, None)
    return box if box is not None and box[2:] != image.size else None


def _transposed_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return the position of a box (0, 0, w, h) after the orientation was applied; `size` is the upright image's."""
    width, height = box[:1:-1] if orientation in (5, 6, 7, 8) else box[2:]
    flips = _FLIPS.get(orientation, "")
    left = size[0] - width if "x" in flips else 0
    top = size[1] - height if "y" in flips else 0
    return left, top, left + width, top + height


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data does not affect the pixels
        return 1


def channels_first(image: Image.Image) -> np.ndarray:
    """Return the pixels uint8 (C, H, W) of an image in mode L or RGB."""
    pixels = np.asarray(image)
    return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
