"""RandAugment and TrivialAugment: operations that are chosen for each sample by itself.

An operation is applied to the samples that drew it, so a batch costs as much as if all samples had one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from walloc_cdl.augment import color
from walloc_cdl.augment.draws import Draws
from walloc_cdl.augment.geometry import rotations, sample, shears, shifts

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Pixels (n, C, H, W) from 0 to 1, strengths (n,) from 0 to 1 and signs (n,) of 1 or -1, to pixels."""


def _warp(make: Callable[[Tensor, float], Tensor]) -> Operation:
    def apply(x: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return sample(x, make(strength * sign, width / height), (height, width))

    return apply


def _factor(change: Callable[[Tensor, Tensor], Tensor], largest: float) -> Operation:
    return lambda x, strength, sign: change(x, 1 + largest * strength * sign)


RAND_AUGMENT: dict[str, Operation] = {
    "autocontrast": lambda x, strength, sign: color.autocontrast(x),
    "equalize": lambda x, strength, sign: color.equalize(x),
    "invert": lambda x, strength, sign: color.invert(x),
    "rotate": _warp(lambda amount, aspect: rotations(30 * amount, aspect)),
    "posterize": lambda x, strength, sign: color.posterize(x, 4 - (4 * strength).long()),
    "solarize": lambda x, strength, sign: color.solarize(x, 1 - strength),
    "solarize_add": lambda x, strength, sign: color.solarize_add(x, strength * 110 / 255),
    "saturation": _factor(color.saturation, 0.9),
    "contrast": _factor(color.contrast, 0.9),
    "brightness": _factor(color.brightness, 0.9),
    "sharpness": _factor(color.sharpness, 0.9),
    "shear_x": _warp(lambda amount, aspect: shears(0.3 * amount, aspect, axis=0)),
    "shear_y": _warp(lambda amount, aspect: shears(0.3 * amount, aspect, axis=1)),
    "translate_x": _warp(lambda amount, aspect: shifts(0.45 * amount, axis=0)),
    "translate_y": _warp(lambda amount, aspect: shifts(0.45 * amount, axis=1)),
}
"""Operations of timm's `rand-m9-mstd0.5-inc1`, all of which become stronger with the strength."""

TRIVIAL_AUGMENT: dict[str, Operation] = {
    "identity": lambda x, strength, sign: x,
    "shear_x": _warp(lambda amount, aspect: shears(0.99 * amount, aspect, axis=0)),
    "shear_y": _warp(lambda amount, aspect: shears(0.99 * amount, aspect, axis=1)),
    "translate_x": _warp(lambda amount, aspect: shifts(32 / 224 * amount, axis=0)),
    "translate_y": _warp(lambda amount, aspect: shifts(32 / 224 * amount, axis=1)),
    "rotate": _warp(lambda amount, aspect: rotations(135 * amount, aspect)),
    "brightness": _factor(color.brightness, 0.99),
    "saturation": _factor(color.saturation, 0.99),
    "contrast": _factor(color.contrast, 0.99),
    "sharpness": _factor(color.sharpness, 0.99),
    "posterize": lambda x, strength, sign: color.posterize(x, 8 - (6 * strength).round().long()),
    "solarize": lambda x, strength, sign: color.solarize(x, 1 - strength),
    "autocontrast": lambda x, strength, sign: color.autocontrast(x),
    "equalize": lambda x, strength, sign: color.equalize(x),
}
"""Operations of torchvision's `TrivialAugmentWide`, whose shift of 32 pixels is a share of 224 here."""


@dataclass(frozen=True)
class RandAugment:
    """Applies `num_ops` operations in a row, each with a probability (Cubuk et al. 2020, as timm has it)."""

    num_ops: int = 2
    magnitude: float = 9.0
    """From 0 to 10."""
    deviation: float = 0.5
    """Standard deviation of a sample's magnitude."""
    probability: float = 0.5

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """Return pixels (B, C, H, W) from 0 to 1, each sample with its own operations."""
        for number in range(self.num_ops):
            turn = draws.named(str(number))
            magnitude = self.magnitude + self.deviation * turn.normal("magnitude")
            chosen = turn.below("operation", len(RAND_AUGMENT))
            chosen = torch.where(turn.happens("apply", self.probability), chosen, -1)
            x = _apply(RAND_AUGMENT, x, chosen, (magnitude / 10).clamp(0, 1), turn)
        return x


@dataclass(frozen=True)
class TrivialAugment:
    """Applies one operation of a random strength (Müller and Hutter 2021, the wide space)."""

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """Return pixels (B, C, H, W) from 0 to 1, each sample with its own operation."""
        chosen = draws.below("operation", len(TRIVIAL_AUGMENT))
        strength = draws.below("strength", 31).float() / 30
        return _apply(TRIVIAL_AUGMENT, x, chosen, strength, draws)


def _apply(operations: dict[str, Operation], x: Tensor, chosen: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Apply to each sample the operation of the number `chosen`, int64 (B,); none for -1."""
    sign = torch.where(draws.happens("negative", 0.5), -1.0, 1.0)
    result = x.clone()
    for number, operation in enumerate(operations.values()):
        samples = (chosen == number).nonzero()[:, 0]
        if len(samples):
            result[samples] = operation(x[samples], strength[samples], sign[samples]).to(x.dtype)
    return result
