"""How an image fills a square: which side decides, what is cut off or filled up, and by which kernel it is resized."""

from __future__ import annotations

import numpy as np
from PIL import Image

KERNELS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
"""PIL's, all antialiased; `box` is the mean of the area that a pixel covers."""

CROPS = ("center", "pad")


def square(image: Image.Image, size: int, kernel: str, crop: str) -> Image.Image:
    """The image, `size` pixels a side.

    - `center`: the shorter side becomes `size`, and what the longer one has too much is cut off on both ends, as
      torchvision's `Resize(size)` and `CenterCrop(size)` do: the longer side is int(size · longer / shorter), and
      the crop begins at round((side - size) / 2), half to even.
    - `pad`: the longer side becomes `size`, the shorter one int(size · shorter / longer), at least 1, and its edge
      is repeated on both ends, an odd pixel at the right or bottom.
    """
    if crop == "center":
        image = _scaled(image, size, min(image.size), kernel)
        left, top = (round((side - size) / 2) for side in image.size)
        return image.crop((left, top, left + size, top + size))
    image = _scaled(image, size, max(image.size), kernel)
    missing = [size - side for side in (image.height, image.width)]
    edges = [(lack // 2, lack - lack // 2) for lack in missing]
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, edges + [(0, 0)] * (pixels.ndim - 2), mode="edge"))


def _scaled(image: Image.Image, size: int, side: int, kernel: str) -> Image.Image:
    """The image enlarged or reduced so that `side`, the length of one of its sides, becomes `size`."""
    target = (max(1, size * image.width // side), max(1, size * image.height // side))
    return image if target == image.size else image.resize(target, KERNELS[kernel])
