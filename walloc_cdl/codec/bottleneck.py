"""The entropy bottleneck: companding, rounding, and inverse companding. `walloc_cdl.spec` has the formulas."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from walloc_cdl.spec import PROBABILITY_FLOOR, companded_limit, companding_scale


class Compand(nn.Module):
    """Maps unbounded latents to ±`limit` by the normal distribution function with standard deviation `scale`."""

    def __init__(self, scale: float, limit: float) -> None:
        super().__init__()
        self.scale, self.limit = scale, limit

    def forward(self, z: Tensor) -> Tensor:
        """Return 2 m (Φ(z / s) - 1/2) = m erf(z / (s √2)), of the shape of z."""
        return self.limit * torch.erf(z / (self.scale * math.sqrt(2)))


class Round(nn.Module):
    """Rounds in eval mode; in train mode adds uniform noise in ±1/2, which has the same variance and a gradient."""

    def forward(self, y: Tensor) -> Tensor:
        """Return y rounded or with noise, of the same shape."""
        if self.training:
            return y + torch.rand_like(y) - 0.5
        return torch.round(y)


class Expand(nn.Module):
    """Inverse of `Compand`, with the probability clamped to at least `PROBABILITY_FLOOR` from 0 and 1."""

    def __init__(self, scale: float, limit: float) -> None:
        super().__init__()
        self.scale, self.limit = scale, limit

    def forward(self, y: Tensor) -> Tensor:
        """Return s Φ⁻¹(y / (2 m) + 1/2), of the shape of y."""
        probability = (y / (2 * self.limit) + 0.5).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return self.scale * torch.special.ndtri(probability)


def compand(bits: int) -> Compand:
    """Return the companding of `bits`-bit codes, which maps to ±127.499 for 8 bits."""
    return Compand(companding_scale(bits), companded_limit(bits))


def expand(bits: int) -> Expand:
    """Return the inverse companding of `bits`-bit codes."""
    return Expand(companding_scale(bits), companded_limit(bits))
