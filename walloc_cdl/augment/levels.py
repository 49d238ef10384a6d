"""`PixelLevels`: a batch of images on several grids; each sample is read from the one that its crop needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

TOLERANCE = 0.1
"""A crop may be enlarged by this share before a larger grid is read for it. Mean PSNR of light crops of clothing photos
to 128 pixels, against exact ones of 256-pixel images: 40.0 dB from the grid of 128 alone, 43.5 to 44.2 for any value
from 0 to 0.2, with 2.1 to 1.5 times the pixels made; 38.1 always from the grid of 256, whose pixels would need a
low-pass filter."""

Render = Callable[[Tensor | None], Tensor]
"""Numbers of samples, int64 (n,), or None for all, to their pixels (n, C, H, W)."""


class PixelLevels:
    """Pixels of a batch of `count` samples on grids of several sizes (H, W) of equal proportions."""

    def __init__(self, count: int, grids: Mapping[tuple[int, int], Render]) -> None:
        self.count = count
        self._grids = dict(sorted(grids.items()))
        self.sizes = list(self._grids)

    def all_of(self, size: tuple[int, int]) -> Tensor:
        """Returns the pixels of all samples on the grid of this size, (B, C, *size)."""
        return self._grids[size](None)

    def choose(self, maps: Tensor, size: tuple[int, int]) -> list[tuple[Tensor | None, Tensor]]:
        """Returns groups of samples, int64 (n,), with their pixels (n, C, H, W); a single group is None for all.

        `maps` (B, 2, 3) are those by which the pixels are sampled to `size`. A sample is read from the smallest grid on
        which it is not enlarged, or else from the largest one.
        """
        shares = torch.linalg.det(maps[:, :, :2].float()).abs().sqrt()
        wanted = (size[0] * size[1]) ** 0.5 * (1 - TOLERANCE) / shares
        sides = torch.tensor([(height * width) ** 0.5 for height, width in self.sizes], device=maps.device)
        numbers = torch.searchsorted(sides, wanted).clamp_max(len(sides) - 1).cpu()  # once for all samples
        found = numbers.unique().tolist()
        if len(found) == 1:
            return [(None, self._grids[self.sizes[found[0]]](None))]
        groups = []
        for number in found:
            samples = (numbers == number).nonzero()[:, 0].to(maps.device)
            groups.append((samples, self._grids[self.sizes[number]](samples)))
        return groups
