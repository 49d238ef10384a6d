"""`LoopConfig`: the settings of a training loop, for any kind of model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.training.precision import PRECISIONS


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the optimizer (AdamW), the schedule (cosine with warmup) and the averaging of weights.

    Raises `CallError` for values out of range.
    """

    epochs: int = 15
    batch_size: int = 64
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Applies to weights of two or more dimensions, except those that the model exempts."""
    warmup_epochs: float = 1.0
    """Number of epochs, possibly fractional, over which the learning rate rises linearly."""
    ema_decay: float = 0.998
    """Largest decay per update of the averaged weights; with 0 the average equals the last weights."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient of all weights together; None for no limit."""
    precision: str = "auto"
    """`bf16`, `fp32`, or `auto`: bf16 on GPUs that compute it natively."""
    seed: int = 0
    """Determines the initial weights (of a model that is built for the run), the order of the samples and dropout."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("weight_decay", "warmup_epochs", "seed"):
            if not getattr(self, name) >= 0:
                raise CallError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.seed >= 2**64:
            raise CallError(f"seed is {self.seed}; it must be below 2^64")
        require_fraction("ema_decay", self.ema_decay)
        if not 0 < self.lr < math.inf:
            raise CallError(f"lr is {self.lr}; it must be above 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise CallError(f"clip_norm is {self.clip_norm}; it must be above 0, or None for no limit")
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS, f"choose one of {', '.join(PRECISIONS)}")

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return dataclasses.asdict(self)


def require_fraction(name: str, value: float) -> None:
    """Raise `CallError` unless 0 ≤ value < 1."""
    if not 0 <= value < 1:
        raise CallError(f"{name} is {value}; it must be at least 0 and below 1")
