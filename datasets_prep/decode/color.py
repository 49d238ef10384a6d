"""Converts any mode that a decoder gives to 8-bit gray or RGB: depth, color profile, transparency, in this order."""

from __future__ import annotations

import numpy as np
from PIL import Image

from datasets_prep.decode.icc import to_srgb
from datasets_prep.samples.stored import BadSignalError

SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
GRAY_MODES = ("1", "L", "LA", "La", "I", *SIXTEEN_BIT_MODES)
"""Modes of images without color."""

_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0


def eight_bit_color(image: Image.Image, channels: int, profiles: str) -> Image.Image:
    """Convert an image, which need not be decoded yet, to mode L (1 channel) or RGB (3), without transparency.

    `profiles`: `ignore` or `srgb`, the handling of an embedded color profile. Raises `BadSignalError` for pixels
    whose range or color space is not defined.
    """
    profile = image.info.get("icc_profile")
    image = _eight_bit(image)
    if profiles == "srgb" and profile and image.mode != "1":
        image = to_srgb(_profile_mode(image), profile)
    image, mode = _composite_on_white(image), "L" if channels == 1 else "RGB"
    if image.mode != mode:
        return image.convert(mode)
    image.load()  # `convert` would load, too, but also copy
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Reduce 16-bit gray to its high byte; PIL does the same for 16-bit color when it decodes."""
    if image.mode == "LAB":
        raise BadSignalError("LAB colors; expected gray, RGB or CMYK")
    rawmode = _rawmode(image)
    if image.mode not in ("I", "F", *SIXTEEN_BIT_MODES):
        if ";16" in rawmode:
            image.load()
            image.info.pop("transparency", None)  # a 16-bit color, ambiguous among 8-bit colors
        return image
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise BadSignalError("pixels beyond 16 bits; only 8-bit images and 16-bit gray or color have a defined range")
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise BadSignalError("pixels beyond 16 bits; only 8-bit images and 16-bit gray or color have a defined range")
    gray = Image.fromarray((values >> (4 if rawmode == "I;12" else 8)).astype(np.uint8))
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:  # PIL inverts 8 bits only
        gray = Image.fromarray(255 - np.asarray(gray))
    key = image.info.get("transparency")
    if isinstance(key, int):
        gray.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return gray


def _rawmode(image: Image.Image) -> str:
    """Return the decoder's name of the stored pixel format, which PIL has only before decoding."""
    arguments = image.tile[0][3] if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _profile_mode(image: Image.Image) -> Image.Image:
    """Convert to a mode that profiles apply to: L, LA, RGB, RGBA or CMYK."""
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("L", "La") else "RGBA")
    return image.convert("RGB")


def _composite_on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    if image.mode == "La":  # PIL converts La to LA only
        image = image.convert("LA")
    straight = image if image.mode == "RGBA" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), straight)
