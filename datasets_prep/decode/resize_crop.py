"""Resizes an image to a square, by cropping or padding it.

Padding is centered and repeats the edge: a border of one color would be an edge that the codec must spend its values
on, and a border at one side only would tell a model where the image lies.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

KERNELS = ("lanczos", "bicubic", "bilinear", "box")
"""PIL's kernels, all antialiased; `box` is the mean over the area of an output pixel."""

CROPS = ("center", "pad")

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

Window = tuple[int, int, int, int]
"""Left, top, right and bottom, in whole pixels."""


def square(image: Image.Image, size: int, kernel: str, crop: str, *, box: Box | None = None) -> np.ndarray:
    """Resize an image in mode L or RGB, or its part `box`, to pixels uint8 (C, size, size).

    - `center`: resizes the shorter side to `size` and crops the longer side at both ends, as torchvision's
      `Resize(size)` and `CenterCrop(size)` do: the longer side becomes int(size · longer / shorter), and the crop
      begins at round((side - size) / 2), half to even.
    - `pad`: resizes the longer side to `size` and the shorter side to int(size · shorter / longer), at least 1, and
      repeats its edge at both ends; an odd pixel is added at the right or bottom.
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
    """Resize the part `box` of an image in mode L or RGB to `size`, (width, height); returns pixels uint8 (C, h, w).

    Only the part `window` of the result is computed. None stands for the whole image or the whole result.
    """
    from walloc_cdl.kernels.cpu.resample import resample  # importing numba would delay `--help` by half a second

    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if box is None and size == image.size:
        left, top, right, bottom = window or (0, 0, *size)
        return np.ascontiguousarray(pixels[top:bottom, left:right].transpose(2, 0, 1))
    return resample(pixels, size[::-1], kernel, box=box, window=window)


def deciding_side(sides: tuple[float, float], crop: str) -> float:
    """Return the side that becomes the side of the square: the shorter one for `center`, the longer one for `pad`."""
    return min(sides) if crop == "center" else max(sides)
