"""Embedded color profiles: the pixels that they mean, in sRGB.

LittleCMS converts with relative colorimetric intent and black point compensation: colors within sRGB keep their
appearance exactly, black stays black, and it is what photo editors do unless told otherwise. Perceptual
intent differs only for profiles with tables of their own for it, as those of printers, whose makers each mean
something else by it.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

MAX_SRGB_ERROR = 1
"""A profile that moves no color by more than this, of 255, is sRGB by whatever name; pixels stay as they are."""

_SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
"""Which color space of a profile goes with which mode of an image."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB; `image` is of mode L, LA, RGB, RGBA or CMYK, the result of the same or, without ink, RGB(A).

    A profile that is damaged, or for another kind of color than the image's, is ignored, as viewers do.
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
def _transform(profile: bytes, mode: str):  # noqa: ANN202 - of a module that is imported only here
    """LittleCMS's transform to sRGB, or None where there is nothing to do."""
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
