"""The exponential moving average of a model's weights, which a run saves as its result."""

from __future__ import annotations

import torch
from torch import Tensor


class WeightAverage:
    """Exponential moving average of all floating-point weights and buffers; integers are copied.

    After update number t, counted from 0, the decay is min(decay, (1 + t) / (10 + t)). At first the average
    covers about the last tenth of the updates, so that the initial weights do not dominate a short run; from
    t = 9 / (1 - decay) on it covers the last 1 / (1 - decay) updates.
    """

    def __init__(self, weights: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in weights.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Add a model's weights after update number `step`; their names are those given at construction."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, values = [], []
        for name, value in weights.items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value.detach())
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, rate)
