"""`Cells`: the intervals of values that quantization maps to one code."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.planes.levels import LevelTables, channel_values
from walloc_cdl.spec import LatentSpec, code_limit, companded_limit, companding_scale


@dataclass(frozen=True, eq=False)
class Cells:
    """For each channel the limits between codes, sorted, and the two ends of each code's interval.

    The outer intervals, which have no end, reach as far outwards from their value as inwards.
    """

    limits: Tensor
    """(K, n), infinite where a channel has fewer."""
    low: Tensor
    """(K, n + 1)."""
    high: Tensor
    """(K, n + 1)."""

    @classmethod
    def of(cls, spec: LatentSpec, levels: LevelTables | None) -> Cells:
        """Return the cells of stored latents, float64, in the units of their values; `levels` are those of planes."""
        values, (smallest, _) = channel_values(spec, levels), spec.byte_range
        limits = [_limits(spec, levels, channel) for channel in range(spec.latent_channels)]
        most = max(len(each) for each in limits)
        table, low, high = (np.full((len(limits), most + extra), np.inf) for extra in (0, 1, 1))
        for channel, own in enumerate(limits):
            count = len(own)
            first, last = values[channel, [smallest, smallest + count]]
            table[channel, :count] = own
            low[channel, : count + 1] = [2 * first - own[0], *own]
            high[channel, : count + 1] = [*own, 2 * last - own[-1]]
        return cls(*(torch.from_numpy(part) for part in (table, low, high)))

    def in_units(self, scale: Tensor, mean: Tensor) -> Cells:
        """Return the cells of x = scale (z - mean), both (K,), of the type and on the device of `scale`."""
        parts = (part.to(scale.device) for part in (self.limits, self.low, self.high))
        return Cells(*((scale.double()[:, None] * (part - mean.double()[:, None])).to(scale.dtype) for part in parts))

    def around(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends, both (B, K, h, w), of the intervals in which values (B, K, h, w) lie."""
        flat = x.movedim(1, 0).flatten(1)
        codes = torch.searchsorted(self.limits.to(x), flat.contiguous(), right=True)
        ends = (part.to(x).gather(1, codes).unflatten(1, (len(x), *x.shape[2:])) for part in (self.low, self.high))
        low, high = (part.movedim(0, 1) for part in ends)
        return low, high


def _limits(spec: LatentSpec, levels: LevelTables | None, channel: int) -> np.ndarray:
    """Return the sorted limits between the codes of a channel, in the units of values; a value at a limit is above."""
    if levels is not None:
        return levels.channel_thresholds(channel, spec.channel_bits[channel]).astype(np.float64)
    if spec.companding == "none":
        return (np.arange(255) + 0.5) / 255 - 0.5
    limit, inverse = code_limit(spec.bits), NormalDist(0, companding_scale(spec.bits)).inv_cdf
    return np.array([inverse((code + 0.5) / (2 * companded_limit(spec.bits)) + 0.5) for code in range(-limit, limit)])
