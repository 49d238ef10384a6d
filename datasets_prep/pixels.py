"""From an image file to uint8 pixels: the one definition of what a source image looks like.

- The first frame counts. Its EXIF orientation is applied; an orientation that cannot be read is none.
- Transparency is composited on white, as viewers show it.
- 16-bit gray keeps its high byte (value // 256). Floating-point images are refused: they have no range.
- Color becomes gray by PIL's luma (ITU-R 601); gray becomes color by repeating the channel.
- Embedded color profiles are ignored, and CMYK becomes RGB by PIL's plain conversion.

Workers import this module, so it needs no more than numpy and PIL.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from datasets_prep.signals.base import BadSignalError, failure_reason
from walloc_cdl.errors import CallError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. PIL knows more, among them formats that start other programs (EPS)."""

MAX_ASPECT = 20
"""Longer side over shorter one. Checked before resizing: 20,000 × 1 at a shorter side of 256 has 1.3 gigapixels."""

MAX_PIXELS = 89_478_485
"""PIL's own limit (a quarter of a gigabyte of RGB), at which it only warns."""

SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
GRAY_MODES = ("1", "L", "LA", "La", "I", *SIXTEEN_BIT_MODES)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(BadSignalError):
    """This one image cannot be used."""


def load_pixels(data: bytes | os.PathLike[str], size: int, channels: int) -> np.ndarray:
    """Pixels uint8 (channels, size, size): shorter side to `size` with PIL's Lanczos filter, center crop.

    The sides are those of torchvision's `Resize(size)` and `CenterCrop(size)`: the longer side is
    int(size · longer / shorter), and the crop begins at round((side - size) / 2), half to even.

    Raises `BadImageError` for anything but a whole image within `MAX_PIXELS` and `MAX_ASPECT`.
    """
    with upright_image(data, channels) as image:
        return center_crop(image, size)


@contextmanager
def upright_image(data: bytes | os.PathLike[str], channels: int) -> Iterator[Image.Image]:
    """The image in PIL's mode L or RGB, upright; `BadImageError` for what `load_pixels` refuses, also in the block."""
    with _opened(data) as image:
        _check_shape(image)
        yield _converted(image, channels)


def center_crop(image: Image.Image, size: int) -> np.ndarray:
    """The crop of `load_pixels`, uint8 (C, size, size), of an upright image."""
    width, height = image.size
    shorter = min(width, height)
    target = (int(size * width / shorter), int(size * height / shorter))
    if target != image.size:
        image = image.resize(target, Image.Resampling.LANCZOS)
    left, top = (round((side - size) / 2) for side in target)
    return channels_first(image.crop((left, top, left + size, top + size)))


def load_native(data: bytes | os.PathLike[str], channels: int, multiple: int) -> np.ndarray:
    """Pixels uint8 (channels, H, W) as they are, center-cropped so that H and W are multiples of `multiple`.

    Raises `BadImageError` as `load_pixels` does, and for images smaller than `multiple`.
    """
    with _opened(data) as image:
        _check_shape(image)
        upright = _converted(image, channels)
        width, height = (side - side % multiple for side in upright.size)
        if not width or not height:
            raise BadImageError(f"{upright.width}×{upright.height} pixels, smaller than the stride {multiple}")
        left, top = (upright.width - width) // 2, (upright.height - height) // 2
        return channels_first(upright.crop((left, top, left + width, top + height)))


def load_whole(data: bytes | os.PathLike[str], channels: int) -> np.ndarray:
    """Pixels uint8 (channels, H, W), all of them: of any size and shape within `MAX_PIXELS`.

    Raises `BadImageError` for anything but a whole image.
    """
    with _opened(data) as image:
        _check_size(image)
        return channels_first(_converted(image, channels))


def image_mode(data: bytes | os.PathLike[str]) -> str:
    """PIL's name of the stored pixel format, from the header alone; raises `BadImageError`."""
    with _opened(data) as image:
        return image.mode


@contextmanager
def _opened(data: bytes | os.PathLike[str]) -> Iterator[Image.Image]:
    """The image, whose pixels may still be undecoded; whatever decoding raises becomes a `BadImageError`."""
    try:
        with _stream(data) as stream:
            if not stream.read(1):
                raise BadImageError("empty file")
            stream.seek(0)
            Image.init()
            with Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                yield image
    except (BadImageError, CallError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(_too_large()) from error
    except Exception as error:  # on broken files PIL's decoders raise whatever their parsing stumbled over
        raise BadImageError(failure_reason(error)) from error


def _stream(data: bytes | os.PathLike[str]) -> BinaryIO:
    return io.BytesIO(data) if isinstance(data, bytes) else Path(data).open("rb")


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


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """Mode L or RGB, upright."""
    if channels not in (1, 3):
        raise CallError(f"{channels} channels; image files give 1 (gray) or 3 (RGB)")
    turn = _TURNS.get(_orientation(image))
    flat = _without_alpha(_eight_bit(image)).convert("L" if channels == 1 else "RGB")
    return flat.transpose(turn) if turn is not None else flat


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels may be whole all the same; if not, decoding them says so
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode not in ("I", "F", *SIXTEEN_BIT_MODES):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise BadImageError("pixels beyond 16 bits; only 8-bit images and 16-bit gray have a defined range")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _without_alpha(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque


def channels_first(image: Image.Image) -> np.ndarray:
    """Pixels uint8 (C, H, W) of an image in mode L or RGB."""
    pixels = np.asarray(image)
    return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
