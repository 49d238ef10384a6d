"""Pillow's resizing, rows before columns, whatever its version.

Pillow 13 takes columns first where the height shrinks by more than twice as many pixels as the width, and the bytes
between the two passes are then rounded otherwise.
"""

from __future__ import annotations

from PIL import Image


def resized_by_pillow(image: Image.Image, size: tuple[int, int], kernel: str, box=None) -> Image.Image:
    """The part `box` of an image resized to `size`, width and height."""
    left, top, right, bottom = box or (0, 0, *image.size)
    resampling = Image.Resampling[kernel.upper()]
    narrow = image.resize((size[0], image.height), resampling, box=(left, 0, right, image.height))
    return narrow.resize(size, resampling, box=(0, top, size[0], bottom))
