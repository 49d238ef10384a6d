"""How an image fills a square: which side decides, what is cut off or filled up, and by which kernel it is resized."""

from __future__ import annotations

import numpy as np
from PIL import Image

KERNELS = ("lanczos", "bicubic", "bilinear", "box")
"""PIL's, all antialiased; `box` is the mean of the area that a pixel covers."""

CROPS = ("center", "pad")

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


def square(image: Image.Image, size: int, kernel: str, crop: str) -> np.ndarray:
    """Pixels uint8 (C, size, size) of an image in mode L or RGB.

    - `center`: the shorter side becomes `size`, and what the longer one has too much is cut off on both ends, as
      torchvision's `Resize(size)` and `CenterCrop(size)` do: the longer side is int(size · longer / shorter), and
      the crop begins at round((side - size) / 2), half to even.
    - `pad`: the longer side becomes `size`, the shorter one int(size · shorter / longer), at least 1, and its edge
      is repeated on both ends, an odd pixel at the right or bottom.
    """
    if crop == "center":
        width, height = _scaled(image, size, min(image.size))
        left, top = (round((side - size) / 2) for side in (width, height))
        return resized(image, (width, height), kernel, window=(left, top, left + size, top + size))
    pixels = resized(image, _scaled(image, size, max(image.size)), kernel)
    edges = [((size - side) // 2, size - side - (size - side) // 2) for side in pixels.shape[1:]]
    return np.pad(pixels, [(0, 0), *edges], mode="edge")


def resized(
    image: Image.Image, size: tuple[int, int], kernel: str, *, box: Box | None = None, window: Box | None = None
) -> np.ndarray:
    """Pixels uint8 (C, h, w) of an image in mode L or RGB, whose part `box` was resized to `size`, (width, height).

    Of the result only the part `window`; all of it, and all of the image, if None.
    """
    from walloc_cdl.kernels.resample import resample  # numba takes half a second, which `--help` need not wait for

    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if box is None and size == image.size:
        left, top, right, bottom = window or (0, 0, *size)
        return np.ascontiguousarray(pixels[top:bottom, left:right].transpose(2, 0, 1))
    return resample(pixels, size[::-1], kernel, box=box, window=window)


def _scaled(image: Image.Image, size: int, side: int) -> tuple[int, int]:
    """Width and height when `side`, the length of one of the two, becomes `size`."""
    return max(1, size * image.width // side), max(1, size * image.height // side)
