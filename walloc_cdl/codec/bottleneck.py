"""The entropy bottleneck: companding, rounding, and the way back. Formulas in `walloc_cdl.spec`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from walloc_cdl.spec import PROBABILITY_FLOOR, companded_limit, companding_scale


class Compand(nn.Module):
    """Latent of any range to ±`limit`, by the normal distribution function with the deviation `scale`."""

    def __init__(self, scale: float, limit: float) -> None:
        super().__init__()
        self.scale, self.limit = scale, limit

    def forward(self, z: Tensor) -> Tensor:
        """2 m (Φ(z / s) - 1/2) = m erf(z / (s √2)); same shape as z."""
        return self.limit * torch.erf(z / (self.scale * math.sqrt(2)))


class Round(nn.Module):
    """Rounds in eval mode; in train mode adds uniform noise in ±1/2, which has the same error and a gradient."""

    def forward(self, y: Tensor) -> Tensor:
        """Same shape as y."""
        if self.training:
            return y + torch.rand_like(y) - 0.5
        return torch.round(y)


class Expand(nn.Module):
    """Inverse of `Compand`, with the probability kept `PROBABILITY_FLOOR` away from 0 and 1."""

    def __init__(self, scale: float, limit: float) -> None:
        super().__init__()
        self.scale, self.limit = scale, limit

    def forward(self, y: Tensor) -> Tensor:
        """s Φ⁻¹(y / (2 m) + 1/2); same shape as y."""
        probability = (y / (2 * self.limit) + 0.5).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return self.scale * torch.special.ndtri(probability)


def compand(bits: int) -> Compand:
    """The companding of `bits`-bit codes: to ±127.499 for 8 bits."""
    return Compand(companding_scale(bits), companded_limit(bits))


def expand(bits: int) -> Expand:
    """Its inverse."""
    return Expand(companding_scale(bits), companded_limit(bits))
