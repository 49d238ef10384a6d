"""Decodes image files to uint8 pixels: the only definition of the pixels of a source image.

- The first frame or page is used. Its EXIF orientation is applied; an unreadable orientation is ignored.
- 16-bit values, gray or color, are reduced to their high byte (value // 256). Floating-point images and 32-bit
  integers are refused, since they have no defined range.
- Embedded color profiles are ignored, or converted to sRGB (`datasets_prep.decode.icc`). CMYK without a profile becomes
  RGB by PIL's conversion; in JPEG files it is inverted, as Adobe writes it, with or without Adobe's marker.
- Transparency is composited on white, as viewers show it.
- Color becomes gray by PIL's luma (ITU-R 601); gray becomes color by repeating the channel.
- Ordinary JPEG files are decoded to PIL's bytes by a faster library (`datasets_prep.decode.jpeg`).
- The result is resized to a square and cropped or padded; see `square`. Padding is centered and repeats the edge: a
  border of one color would be an edge that the codec must spend its values on, and a border at one side only would tell
  a model where the image lies.

docs/pixels.md lists the result for every kind of file. Workers import this module, so it imports no more than numpy,
numba, PIL and simplejpeg.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from PIL import Image, features

from datasets_prep.decode.color import eight_bit_color
from datasets_prep.decode.expansion import require_expansion
from datasets_prep.decode.jpeg import decode_jpeg, same_bytes_as_pil
from datasets_prep.decode.orientation import Box, apply_orientation, oriented, oriented_box
from datasets_prep.decode.pil_quirks import refuse_pil_quirks
from datasets_prep.decode.warning_filter import warnings_ignored
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.preparation import Preparation, centered
from datasets_prep.samples.stored import BadSignalError, Stored, UnreadableError, failure_reason
from walloc_cdl.errors import CallError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The decoded formats. PIL supports more, including formats that start other programs (EPS)."""

MAX_ASPECT = 20
"""Limit for the ratio of the longer to the shorter side, checked before resizing: 20,000 × 1, resized to a shorter side
of 256, has 1.3 gigapixels."""

MAX_PIXELS = 89_478_485
"""Limit for the number of pixels: PIL's own limit (a quarter of a gigabyte of RGB), at which PIL only warns."""

PIXELS_PER_BYTE = 2048
"""Limit for the pixels of a file beyond 4096 × 4096, for each of its bytes: 34 bytes of WebP can be 89 megapixels. PNG
cannot exceed 1,032 bytes of pixels per byte. Pixels of one bit do not count: a blank page has thousands per byte."""

SCALED_MARGIN = 2
"""Scaled decoding gives at least this many times the required size, so that the resize kernel determines which
frequencies are kept."""

Window = tuple[int, int, int, int]
"""Left, top, right and bottom, in whole pixels."""

LIBRARIES = {
    "libavif": "avif",
    "libjpeg-turbo": "libjpeg_turbo",
    "libtiff": "libtiff",
    "libwebp": "webp",
    "openjpeg": "jpg_2000",
}
"""Libraries that determine pixels, with PIL's names of them. PNG's library is not listed: PNG is lossless, so all
versions decode the same pixels."""


logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise Python prints PIL's log messages


class BadImageError(BadSignalError):
    """An image cannot be used."""


@dataclass(frozen=True)
class ImagePreparation(Preparation):
    """Resizes images to a square with one of PIL's kernels, and crops or pads them; uint8."""

    channels: int
    """1 (gray) or 3 (RGB)."""
    size: int = 256
    """Pixels a side."""
    resize: str = "lanczos"
    """PIL's name of the kernel."""
    crop: str = "center"
    """`center` or `pad`; see `square`."""
    icc: str = "ignore"
    """Handling of embedded color profiles: `ignore` or `srgb`."""
    decoder: str = "pil"
    """`pil` or `pil-scaled`; see `load_pixels`."""

    kind: ClassVar[str] = "image"
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "simplejpeg")
    memory_bytes: ClassVar[int | None] = 4 * 2**30

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, S, S)."""
        return self.channels, self.size, self.size

    def load_code(self) -> None:
        """See `Preparation.load_code`: numba and the kernel of `resized`, which is compiled if it is not cached."""
        from walloc_cdl.kernels.cpu.compiling import compiling_once
        from walloc_cdl.kernels.cpu.resample import last_compiled

        same_bytes_as_pil()
        with compiling_once(last_compiled):
            square(np.zeros((9, 9, 3), np.uint8), 8, "lanczos", "center")

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
        """Inverse of `to_json`; missing values have their defaults. Raises `KeyError` without `channels`."""
        names = [each.name for each in fields(ImagePreparation) if each.name in values]
        return ImagePreparation(**{"channels": values["channels"], **{name: values[name] for name in names}})

    def versions(self) -> dict[str, str]:
        """See `Preparation.versions`; adds PIL's decoding libraries, which are bundled with PIL or the system's."""
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
    """Decode an image to pixels uint8 (channels, size, size), resized and cropped or padded; see `square`.

    `profiles`: handling of embedded color profiles, `ignore` or `srgb`. `decoder`: `pil`, or `pil-scaled`, which
    decodes JPEG files at a half, a quarter or an eighth of their size (libjpeg's scaled inverse transform), as long as
    the side that is resized to `size` remains at least `SCALED_MARGIN` · `size` long.

    Raises `BadImageError` for anything except a complete image within `MAX_PIXELS` and `MAX_ASPECT`.
    """
    with _opened(data) as (image, encoded):
        _check_shape(image)
        box = _decode_scaled(image, SCALED_MARGIN * size, crop) if decoder == "pil-scaled" else None
        pixels = _upright(image, encoded, channels, profiles)
        box = box and oriented_box(image, box, pixels.shape[1::-1])
        return _with_channels(square(pixels, size, kernel, crop, box=box), channels)


def square(pixels: np.ndarray, size: int, kernel: str, crop: str, *, box: Box | None = None) -> np.ndarray:
    """Resize pixels uint8 (H, W, C), or their part `box`, to uint8 (C, size, size).

    - `center`: resizes the shorter side to `size` and crops the longer side at both ends, as torchvision's
      `Resize(size)` and `CenterCrop(size)` do: the longer side becomes int(size · longer / shorter), and the crop
      begins at round((side - size) / 2), half to even.
    - `pad`: resizes the longer side to `size` and the shorter side to int(size · shorter / longer), at least 1, and
      repeats its edge at both ends; an odd pixel is added at the right or bottom.
    """
    left, top, right, bottom = box or (0, 0, *pixels.shape[1::-1])
    sides = right - left, bottom - top
    target = tuple(max(1, int(size * side // deciding_side(sides, crop))) for side in sides)
    if crop == "center":
        width, height = target
        left, top = (round((side - size) / 2) for side in (width, height))
        return resized(pixels, target, kernel, box=box, window=(left, top, left + size, top + size))
    result = resized(pixels, target, kernel, box=box)
    edges = [((size - side) // 2, size - side - (size - side) // 2) for side in result.shape[1:]]
    return np.pad(result, [(0, 0), *edges], mode="edge")


def resized(
    pixels: np.ndarray, size: tuple[int, int], kernel: str, *, box: Box | None = None, window: Window | None = None
) -> np.ndarray:
    """Resize the part `box` of pixels uint8 (H, W, C) to `size`, (width, height); returns a copy, uint8 (C, h, w).

    Only the part `window` of the result is computed. None stands for the whole image or the whole result.
    """
    from walloc_cdl.kernels.cpu.resample import resample  # importing numba would delay `--help` by half a second

    if box is None and size == pixels.shape[1::-1]:
        left, top, right, bottom = window or (0, 0, *size)
        return pixels[top:bottom, left:right].transpose(2, 0, 1).copy()
    return resample(pixels, size[::-1], kernel, box=box, window=window)


def deciding_side(sides: tuple[float, float], crop: str) -> float:
    """Return the side that becomes the side of the square: the shorter one for `center`, the longer one for `pad`."""
    return min(sides) if crop == "center" else max(sides)


def upright_pixels(data: Stored, channels: int, profiles: str = "ignore") -> np.ndarray:
    """Decode an image to pixels uint8 (H, W, channels), upright; raises `BadImageError` as `load_pixels` does."""
    with _opened(data) as (image, encoded):
        _check_shape(image)
        return _with_channels(_upright(image, encoded, channels, profiles), channels, axis=2)


def load_native(data: Stored, channels: int, multiple: int, *, profiles: str = "ignore") -> np.ndarray:
    """Decode an image to pixels uint8 (channels, H, W) at its own size, center-cropped to multiples of `multiple`.

    Raises `BadImageError` as `load_pixels` does, and for images smaller than `multiple`.
    """
    with _opened(data) as (image, encoded):
        _check_shape(image)
        pixels = _upright(image, encoded, channels, profiles)
        height, width = pixels.shape[:2]
        if min(height, width) < multiple:
            raise BadImageError(f"{width}×{height} pixels, smaller than the stride {multiple}")
        return _channels_first(pixels[centered(height, multiple), centered(width, multiple)], channels)


def load_whole(data: Stored, channels: int, *, profiles: str = "ignore") -> np.ndarray:
    """Decode an image of any aspect ratio, within `MAX_PIXELS`, to pixels uint8 (channels, H, W), without cropping.

    Raises `BadImageError` for anything except a complete image.
    """
    with _opened(data) as (image, encoded):
        _check_size(image)
        return _channels_first(_upright(image, encoded, channels, profiles), channels)


def image_mode(data: Stored) -> str:
    """Return PIL's name of the stored pixel format, from the header alone; raises `BadImageError` if unreadable."""
    with _opened(data) as (image, _):
        return image.mode


@contextmanager
def _opened(data: Stored) -> Iterator[tuple[Image.Image, bytes]]:
    """Open an image without decoding it, and yield it with its file's content.

    Exceptions from decoding in the `with` block become `BadImageError`. Raises `UnreadableError` if the system cannot
    read the file.
    """
    try:
        encoded = read_stored(data)
        if not encoded:
            raise BadImageError("empty file")
        Image.init()
        formats = [name for name in FORMATS if name in Image.OPEN]
        # This module refuses or corrects what PIL warns about.
        with warnings_ignored(), Image.open(io.BytesIO(encoded), formats=formats) as image:
            refuse_pil_quirks(image, encoded)
            if image.mode != "1" and image.width * image.height <= MAX_PIXELS:
                require_expansion(image.width * image.height, len(encoded), PIXELS_PER_BYTE, "pixels")
            yield image, encoded
    except (BadImageError, UnreadableError, CallError, MemoryError):
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


def _upright(image: Image.Image, encoded: bytes, channels: int, profiles: str) -> np.ndarray:
    """Decode to pixels uint8 (H, W, C), upright: gray for one channel, and for three RGB, or gray if the file is."""
    if channels not in (1, 3):
        raise CallError(f"{channels} channels; image files give 1 (gray) or 3 (RGB)")
    if profiles == "ignore" or "icc_profile" not in image.info:
        pixels = decode_jpeg(image, encoded)
        if pixels is not None:
            if channels == 1 and pixels.shape[2] == 3:
                pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
            return oriented(image, pixels)
    pixels = np.asarray(apply_orientation(image, eight_bit_color(image, channels, profiles)))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _decode_scaled(image: Image.Image, size: int, crop: str) -> Box | None:
    """Make PIL decode a JPEG file scaled, with a deciding side of at least `size`.

    Returns the part of the result that the image covers: sides are rounded up, so that the last pixel lies partly
    outside. Returns None if the size does not change.
    """
    sides = tuple(max(1, int(size * side // deciding_side(image.size, crop))) for side in image.size)
    _, box = image.draft(None, sides) or (None, None)
    return box if box is not None and box[2:] != image.size else None


def _channels_first(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return a copy of pixels (H, W, C) as (channels, H, W)."""
    from walloc_cdl.kernels.cpu.pixel_layout import interleaved  # importing numba would delay `--help`

    return _with_channels(interleaved(pixels).transpose(2, 0, 1), channels).copy()


def _with_channels(pixels: np.ndarray, channels: int, axis: int = 0) -> np.ndarray:
    """Return the pixels, and gray ones repeated along `axis` if they need three channels."""
    return np.repeat(pixels, channels, axis) if pixels.shape[axis] < channels else pixels
