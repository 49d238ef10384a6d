"""Converts images with embedded color profiles to sRGB.

Profiles are ignored by default, because training code elsewhere ignores them, and models are compared with such
models. LittleCMS converts with relative colorimetric intent and black point compensation: colors within sRGB keep
their appearance exactly, black stays black, and photo editors do the same by default. Perceptual intent differs only
for profiles with their own tables for it, such as those of printers, and its meaning depends on the maker.

Whether a profile is sRGB is measured, not read from its name, of which there are dozens.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

MAX_SRGB_ERROR = 1
"""A profile that changes no color of a grid by more than this, of 255, counts as sRGB; pixels are not converted."""

_SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
"""Maps image modes to the color space that a profile for them must have."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image of mode L, LA, RGB, RGBA or CMYK to sRGB.

    Returns an image of mode RGB or RGBA, or `image` itself if the conversion is the identity, and if the profile is
    damaged or for another color space, which viewers ignore, too.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    opaque = image.convert(image.mode[:-1]) if alpha is not None else image
    transform = _transform(profile, opaque.mode)
    if transform is None:
        return image
    converted = transform.apply(opaque)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str):  # noqa: ANN202 - its type is in a module that is imported only here
    """Return LittleCMS's transform to sRGB, or None if there is nothing to do."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    return None if mode == "RGB" and _is_identity(transform) else transform


def _is_identity(transform) -> bool:  # noqa: ANN001 - see above
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(len(levels), -1, 3)
    moved = np.asarray(transform.apply(Image.fromarray(colors))).astype(int)
    return bool(np.abs(moved - colors).max() <= MAX_SRGB_ERROR)
