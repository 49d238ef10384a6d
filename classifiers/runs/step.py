"""The training step of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from classifiers.models.classifier import LatentClassifier
from walloc_cdl.latents import UNKNOWN_LABEL
from walloc_cdl.training import autocast


@dataclass(frozen=True, eq=False)
class ClassificationStep:
    """Computes the mean cross entropy of the samples of known class; a `Step` of `TrainingLoop`."""

    model: LatentClassifier
    label_smoothing: float
    precision: str
    """`bf16` or `fp32`, as `choose_precision` returns it, for the model; the loss is computed in float32."""
    device: torch.device

    def __call__(self, codes: Tensor, targets: Tensor, words: Tensor) -> Tensor:
        """Returns the loss, float32 (), of codes uint8 (B, K, h, w) and class numbers int64 (B,).

        Words, uint64 (B,), decide how the samples are augmented. The loss is 0 if no class is known.
        """
        with autocast(self.precision, self.device):
            logits = self.model(codes, words)
        loss = cross_entropy(
            logits.float(),
            targets,
            ignore_index=UNKNOWN_LABEL,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return loss / (targets != UNKNOWN_LABEL).sum().clamp_min(1)

    def weight(self, targets: Tensor) -> Tensor:
        """Returns the number of samples of known class, float32 (), of which the loss is the mean."""
        return (targets != UNKNOWN_LABEL).sum().float()
