"""From an image file to uint8 pixels: the one definition of what a source image looks like.

- The first frame, or page, counts. Its EXIF orientation is applied; one that cannot be read is none.
- 16 bits keep their high byte, gray or color (value // 256). Floating-point images, and integers of 32 bits, are
  refused: they have no range.
- Embedded color profiles are ignored, or converted to sRGB (`datasets_prep.decode.icc`). CMYK without one becomes RGB
  by PIL's plain conversion; in JPEG files it is inverted, as Adobe writes it, marked so or not.
- Transparency is composited on white, as viewers show it.
- Color becomes gray by PIL's luma (ITU-R 601); gray becomes color by repeating the channel.
- The result is resized and cropped, or padded (`datasets_prep.decode.resize_crop`).

docs/pixels.md says what becomes of which file. Workers import this module, so it needs no more than numpy, numba and
PIL.
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
"""What is decoded. PIL knows more, among them formats that start other programs (EPS)."""

MAX_ASPECT = 20
"""Longer side over shorter one. Checked before resizing: 20,000 × 1 at a shorter side of 256 has 1.3 gigapixels."""

MAX_PIXELS = 89_478_485
"""PIL's own limit (a quarter of a gigabyte of RGB), at which it only warns."""

DECODERS = ("pil", "pil-scaled")

SCALED_MARGIN = 2
"""Decoding to this many times what is needed leaves the kernel to decide the frequencies that are kept."""

_FLIPS = {2: "x", 3: "xy", 4: "y", 6: "x", 7: "xy", 8: "y"}
"""Of the sides of the upright image, those that begin where they ended."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what nobody has asked to see


class BadImageError(BadSignalError):
    """This one image cannot be used."""


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
    """Pixels uint8 (channels, size, size): resized by a kernel and cropped or padded as `framing.square` says.

    `profiles` is what becomes of embedded color profiles: `ignore` or `srgb`. `decoder` is `pil`, or `pil-scaled`,
    which decodes JPEG files at a half, a quarter or an eighth of their size (libjpeg's scaled inverse transform) as
    long as what decides the size stays `SCALED_MARGIN` times as long as is needed.

    Raises `BadImageError` for anything but a whole image within `MAX_PIXELS` and `MAX_ASPECT`.
    """
    with _opened(data) as image:
        _check_shape(image)
        box = _decode_scaled(image, SCALED_MARGIN * size, crop) if decoder == "pil-scaled" else None
        upright = _upright(image, channels, profiles)
        return square(upright, size, kernel, crop, box=box and _turned_box(box, upright.size, _orientation(image)))


@contextmanager
def upright_image(data: Stored, channels: int, profiles: str = "ignore") -> Iterator[Image.Image]:
    """The image in PIL's mode L or RGB, upright; `BadImageError` for what `load_pixels` refuses, also in the block."""
    with _opened(data) as image:
        _check_shape(image)
        yield _upright(image, channels, profiles)


def load_native(data: Stored, channels: int, multiple: int, *, profiles: str = "ignore") -> np.ndarray:
    """Pixels uint8 (channels, H, W) as they are, center-cropped so that H and W are multiples of `multiple`.

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
    """Pixels uint8 (channels, H, W), all of them: of any size and shape within `MAX_PIXELS`.

    Raises `BadImageError` for anything but a whole image.
    """
    with _opened(data) as image:
        _check_size(image)
        return channels_first(_upright(image, channels, profiles))


def image_mode(data: Stored) -> str:
    """PIL's name of the stored pixel format, from the header alone; raises `BadImageError`."""
    with _opened(data) as image:
        return image.mode


@contextmanager
def _opened(data: Stored) -> Iterator[Image.Image]:
    """The image, whose pixels may still be undecoded; whatever decoding raises becomes a `BadImageError`."""
    try:
        encoded = read_stored(data)
        if not encoded:
            raise BadImageError("empty file")
        Image.init()
        formats = [name for name in FORMATS if name in Image.OPEN]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are of what is refused, or put right, here
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
    except Exception as error:  # on broken files PIL's decoders raise whatever their parsing stumbled over
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
    """Mode L or RGB, turned as its EXIF says."""
    if channels not in (1, 3):
        raise CallError(f"{channels} channels; image files give 1 (gray) or 3 (RGB)")
    flat = eight_bit_color(image, channels, profiles)
    turn = _TURNS.get(_orientation(image))  # after decoding, for which PIL turns TIFF files itself, and says so here
    return flat.transpose(turn) if turn is not None else flat


def _decode_scaled(image: Image.Image, size: int, crop: str) -> Box | None:
    """Have a JPEG file decoded so that its deciding side is at least `size`; the part of the result that the whole
    image covers: sides are rounded up, and the last pixel lies partly beyond. None where nothing changes.
    """
    sides = tuple(max(1, int(size * side // deciding_side(image.size, crop))) for side in image.size)
    _, box = image.draft(None, sides) or (None, None)
    return box if box is not None and box[2:] != image.size else None


def _turned_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box at the upper left, (0, 0, w, h), lies when the image was turned, and has this size since."""
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


def channels_first(image: Image.Image) -> np.ndarray:
    """Pixels uint8 (C, H, W) of an image in mode L or RGB."""
    pixels = np.asarray(image)
    return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
