"""The training step of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from classifiers.models.classifier import LatentClassifier
from classifiers.runs.losses import Loss
from walloc_cdl.training import autocast


@dataclass(frozen=True, eq=False)
class ClassifierStep:
    """Computes the loss of a batch; a `Step` of `TrainingLoop`."""

    model: LatentClassifier
    loss: Loss
    precision: str
    """`bf16` or `fp32`, as `choose_precision` returns it, for the model; the loss is computed in float32."""
    device: torch.device

    def __call__(self, codes: Tensor, targets: Tensor, words: Tensor) -> Tensor:
        """Returns the loss, float32 (), of codes uint8 (B, K, h, w) and targets as `LatentLoader` yields them.

        Words, uint64 (B,), decide how the samples are augmented and mixed. The loss is 0 if no label is known.
        """
        total, count = self.terms(codes, targets, words)
        return total / torch.where(count > 0, count, 1)

    def terms(self, codes: Tensor, targets: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the sum of the loss's terms and how much they count together, of which the loss is the quotient."""
        with autocast(self.precision, self.device):
            outputs = self.model(codes, words)
        mixing = self.model.mixing
        shares = None if mixing is None else mixing.shares(words, self.model.config.input_size)
        return self.loss.terms(outputs.float(), targets, shares)
