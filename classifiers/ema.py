"""The running average of a model's weights, which is what a run leaves."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """What is saved of a model, and averaged: its state but that of latent-space transforms."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("transforms.")}


class WeightAverage:
    """Exponential moving average of all floating-point state; integers are copied.

    After update number t, counted from 0, the decay is min(decay, (1 + t) / (10 + t)): at first the average
    reaches back over about a tenth of the updates so far, so a short run is not held back by its initial
    weights, and from t = 9 / (1 - decay) on over 1 / (1 - decay) of them.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in weights_of(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model's weights after update number `step`."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, values = [], []
        for name, value in weights_of(model).items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value.detach())
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, rate)
