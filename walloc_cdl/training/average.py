"""The running average of a model's weights, which is what a run leaves."""

from __future__ import annotations

import torch
from torch import Tensor


class WeightAverage:
    """Exponential moving average of all floating-point weights and buffers; integers are copied.

    After update number t, counted from 0, the decay is min(decay, (1 + t) / (10 + t)): at first the average
    reaches back over about a tenth of the updates so far, so a short run is not held back by its initial
    weights, and from t = 9 / (1 - decay) on over 1 / (1 - decay) of them.
    """

    def __init__(self, weights: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in weights.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Take in a model's weights after update number `step`; they have the names of the first ones."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, values = [], []
        for name, value in weights.items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value.detach())
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, rate)
