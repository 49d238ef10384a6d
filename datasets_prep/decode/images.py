"""Images: from a file to the uint8 pixels of a square, the one definition of what a source image looks like.

- The first frame, or page, counts. Its EXIF orientation is applied; one that cannot be read is none.
- 16 bits keep their high byte, gray or color (value // 256). Floating-point images, and integers of 32 bits, are
  refused: they have no range.
- Embedded color profiles are ignored, or converted to sRGB (`datasets_prep.decode.icc`). CMYK without one becomes RGB
  by PIL's plain conversion; in JPEG files it is inverted, as Adobe writes it, marked so or not.
- Transparency is composited on white, as viewers show it.
- Color becomes gray by PIL's luma (ITU-R 601); gray becomes color by repeating the channel.
- The result is resized to a square and cropped, or padded; see `square`.

docs/pixels.md says what becomes of which file. Workers import this module, so it needs no more than numpy, numba and
PIL.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from PIL import Image, features

from datasets_prep.decode.color import eight_bit_color
from datasets_prep.decode.orientation import Box, upright, upright_box
from datasets_prep.decode.pil_quirks import refuse_pil_quirks
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import BadSignalError, Stored, failure_reason
from walloc_cdl.errors import CallError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. PIL knows more, among them formats that start other programs (EPS)."""

MAX_ASPECT = 20
"""Longer side over shorter one. Checked before resizing: 20,000 × 1 at a shorter side of 256 has 1.3 gigapixels."""

MAX_PIXELS = 89_478_485
"""PIL's own limit (a quarter of a gigabyte of RGB), at which it only warns."""

SCALED_MARGIN = 2
"""Decoding to this many times what is needed leaves the kernel to decide the frequencies that are kept."""

Window = tuple[int, int, int, int]
"""Left, top, right and bottom, in whole pixels."""

LIBRARIES = {
    "libavif": "avif",
    "libjpeg-turbo": "libjpeg_turbo",
    "libtiff": "libtiff",
    "libwebp": "webp",
    "openjpeg": "jpg_2000",
}
"""Libraries that decide pixels, and what PIL calls them. PNG's is not among them: it loses nothing, so all agree."""


logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what nobody has asked to see


class BadImageError(BadSignalError):
    """This one image cannot be used."""


@dataclass(frozen=True)
class ImagePreparation(Preparation):
    """Resized to a square by one of PIL's kernels, cropped or padded; uint8."""

    channels: int
    """1 (gray) or 3 (RGB)."""
    size: int = 256
    """Pixels a side."""
    resize: str = "lanczos"
    """PIL's name of the kernel."""
    crop: str = "center"
    """`center` or `pad`; see `square`."""
    icc: str = "ignore"
    """What becomes of embedded color profiles: `ignore` or `srgb`."""
    decoder: str = "pil"
    """`pil` or `pil-scaled`; see `load_pixels`."""

    kind: ClassVar[str] = "image"
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    memory_bytes: ClassVar[int | None] = 4 * 2**30

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, S, S)."""
        return self.channels, self.size, self.size

    def load(self, stored: Stored) -> np.ndarray:
        """See `load_pixels`."""
        return load_pixels(
            stored,
            self.size,
            self.channels,
            kernel=self.resize,
            crop=self.crop,
            profiles=self.icc,
            decoder=self.decoder,
        )

    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """See `load_native`."""
        return load_native(stored, self.channels, multiple, profiles=self.icc)

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`."""
        settings = {each.name: getattr(self, each.name) for each in fields(ImagePreparation)}
        return {"kind": self.kind, **settings, "transparency": "on white"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImagePreparation:
        """Inverse of `to_json`; what `values` lacks has its default. Raises `KeyError` without `channels`."""
        names = [each.name for each in fields(ImagePreparation) if each.name in values]
        return ImagePreparation(**{"channels": values["channels"], **{name: values[name] for name in names}})

    def versions(self) -> dict[str, str]:
        """See `Preparation.versions`; PIL comes with decoders of its own, or takes the system's."""
        wanted = {**LIBRARIES, "littlecms": "littlecms2"} if self.icc != "ignore" else LIBRARIES
        return {**super().versions(), **{name: features.version(key) or "none" for name, key in wanted.items()}}


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
    """Pixels uint8 (channels, size, size): resized by a kernel and cropped or padded as `square` says.

    `profiles` is what becomes of embedded color profiles: `ignore` or `srgb`. `decoder` is `pil`, or `pil-scaled`,
    which decodes JPEG files at a half, a quarter or an eighth of their size (libjpeg's scaled inverse transform) as
    long as what decides the size stays `SCALED_MARGIN` times as long as is needed.

    Raises `BadImageError` for anything but a whole image within `MAX_PIXELS` and `MAX_ASPECT`.
    """
    with _opened(data) as image:
        _check_shape(image)
        box = _decode_scaled(image, SCALED_MARGIN * size, crop) if decoder == "pil-scaled" else None
        pixels = _upright(image, channels, profiles)
        return square(pixels, size, kernel, crop, box=box and upright_box(image, box, pixels.size))


def square(image: Image.Image, size: int, kernel: str, crop: str, *, box: Box | None = None) -> np.ndarray:
    """Pixels uint8 (C, size, size) of an image in mode L or RGB, or of its part `box`.

    - `center`: the shorter side becomes `size`, and what the longer one has too much is cut off on both ends, as
      torchvision's `Resize(size)` and `CenterCrop(size)` do: the longer side is int(size · longer / shorter), and
      the crop begins at round((side - size) / 2), half to even.
    - `pad`: the longer side becomes `size`, the shorter one int(size · shorter / longer), at least 1, and its edge
      is repeated on both ends, an odd pixel at the right or bottom.
    """
    left, top, right, bottom = box or (0, 0, *image.size)
    sides = right - left, bottom - top
    target = tuple(max(1, int(size * side // deciding_side(sides, crop))) for side in sides)
    if crop == "center":
        width, height = target
        left, top = (round((side - size) / 2) for side in (width, height))
        return resized(image, target, kernel, box=box, window=(left, top, left + size, top + size))
    pixels = resized(image, target, kernel, box=box)
    edges = [((size - side) // 2, size - side - (size - side) // 2) for side in pixels.shape[1:]]
    return np.pad(pixels, [(0, 0), *edges], mode="edge")


def resized(
    image: Image.Image, size: tuple[int, int], kernel: str, *, box: Box | None = None, window: Window | None = None
) -> np.ndarray:
    """Pixels uint8 (C, h, w) of an image in mode L or RGB, whose part `box` was resized to `size`, (width, height).

    Of the result only the part `window`; all of it, and all of the image, if None.
    """
    from walloc_cdl.kernels.cpu.resample import resample  # numba takes half a second, which `--help` need not wait for

    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if box is None and size == image.size:
        left, top, right, bottom = window or (0, 0, *size)
        return np.ascontiguousarray(pixels[top:bottom, left:right].transpose(2, 0, 1))
    return resample(pixels, size[::-1], kernel, box=box, window=window)


def deciding_side(sides: tuple[float, float], crop: str) -> float:
    """Returns the one of two sides that becomes the side of the square."""
    return min(sides) if crop == "center" else max(sides)


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
        pixels = _upright(image, channels, profiles)
        width, height = (side - side % multiple for side in pixels.size)
        if not width or not height:
            raise BadImageError(f"{pixels.width}×{pixels.height} pixels, smaller than the stride {multiple}")
        left, top = (pixels.width - width) // 2, (pixels.height - height) // 2
        return channels_first(pixels.crop((left, top, left + width, top + height)))


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
    return upright(image, eight_bit_color(image, channels, profiles))


def _decode_scaled(image: Image.Image, size: int, crop: str) -> Box | None:
    """Have a JPEG file decoded so that its deciding side is at least `size`; the part of the result that the whole
    image covers: sides are rounded up, and the last pixel lies partly beyond. None where nothing changes.
    """
    sides = tuple(max(1, int(size * side // deciding_side(image.size, crop))) for side in image.size)
    _, box = image.draft(None, sides) or (None, None)
    return box if box is not None and box[2:] != image.size else None


def channels_first(image: Image.Image) -> np.ndarray:
    """Pixels uint8 (C, H, W) of an image in mode L or RGB."""
    pixels = np.asarray(image)
    return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
