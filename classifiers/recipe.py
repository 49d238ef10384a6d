"""`TrainConfig`, and the optimizer and the learning rates that follow from it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from classifiers.precision import PRECISIONS
from walloc_cdl.errors import CallError, unknown_name


@dataclass(frozen=True)
class TrainConfig:
    """How a classifier is trained: AdamW, a cosine with warmup, averaged weights."""

    epochs: int = 15
    batch_size: int = 64
    lr: float = 1e-3
    """Learning rate at its peak."""
    weight_decay: float = 0.05
    """On weights of two and more dimensions, but those that the model exempts."""
    warmup_epochs: float = 1.0
    """Epochs, or a part of one, over which the learning rate rises linearly."""
    label_smoothing: float = 0.0
    ema_decay: float = 0.998
    """Largest decay, for each step, of the average of the weights; 0 keeps the last weights."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient of all weights together; None for no limit."""
    precision: str = "auto"
    """`bf16`, `fp32`, or `auto`: bf16 on GPUs that compute it natively."""
    seed: int = 0
    """Fixes the initial weights (of a model that `train` makes), the order of the samples and every dropout."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("weight_decay", "warmup_epochs", "seed"):
            if not getattr(self, name) >= 0:
                raise CallError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not 0 < self.lr < math.inf:
            raise CallError(f"lr is {self.lr}; it must be above 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise CallError(f"clip_norm is {self.clip_norm}; it must be above 0, or None for no limit")
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS, f"choose one of {', '.join(PRECISIONS)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for canonical JSON."""
        return dataclasses.asdict(self)

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The rate of update number `step`, counted from 0: up in a line, down to 0 along half a cosine."""
        warmup = round(min(self.warmup_epochs, self.epochs) * steps_per_epoch)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.epochs * steps_per_epoch - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the trained weights; norms, biases, position embeddings and the like without decay."""
    backbone = getattr(model, "backbone", model)
    exempt = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else set()
    decayed, undecayed = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim < 2 or name.removeprefix("backbone.") in exempt
            (undecayed if spared else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr)
