"""How an image fills a square: which side decides, what is cut off or filled up, and by which kernel it is resized."""

from __future__ import annotations

import numpy as np
from PIL import Image

KERNELS = ("lanczos", "bicubic", "bilinear", "box")
"""PIL's, all antialiased; `box` is the mean of the area that a pixel covers."""

CROPS = ("center", "pad")

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

Window = tuple[int, int, int, int]
"""The same, of whole pixels."""


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
    """Of two sides the one that becomes the square's."""
    return min(sides) if crop == "center" else max(sides)
