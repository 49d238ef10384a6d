"""Random erasing (Zhong et al. 2020): a box of each chosen sample is replaced by noise or by a constant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from walloc_cdl.augment.draws import Draws


@dataclass(frozen=True)
class RandomErasing:
    """Erases a box of a random share of the area and a random aspect, in normalized pixels."""

    probability: float = 0.25
    scale: tuple[float, float] = (0.02, 1 / 3)
    """Smallest and largest share of the area."""
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """Smallest and largest height / width."""
    noise: bool = True
    """Fill with normal noise for each value, as timm's mode `pixel`, or else with zeros, the mean."""

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return normalized pixels (B, C, H, W) with boxes erased."""
        count, channels, height, width = pixels.shape
        area = draws.uniform("area", *self.scale) * (height * width)
        aspect = draws.uniform("aspect", math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        tall = (area * aspect).sqrt().round().clamp(1, height)
        wide = (area / aspect).sqrt().round().clamp(1, width)
        top = (draws.uniform("top") * (height - tall + 1)).floor()
        left = (draws.uniform("left") * (width - wide + 1)).floor()
        rows = torch.arange(height, device=pixels.device)
        columns = torch.arange(width, device=pixels.device)
        in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
        in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
        chosen = draws.happens("erase", self.probability)
        erased = (in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None])[:, None]
        if not self.noise:
            return pixels.masked_fill(erased, 0)
        values = draws.normal("values", count=channels * height * width).reshape(count, channels, height, width)
        return torch.where(erased, values.to(pixels.dtype), pixels)
