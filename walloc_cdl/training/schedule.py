"""The learning rate schedule."""

from __future__ import annotations

import math

from walloc_cdl.training.config import LoopConfig


def learning_rate(config: LoopConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the rate of update number `step`, counted from 0: a linear warmup, then half a cosine down to 0."""
    warmup = round(min(config.warmup_epochs, config.epochs) * steps_per_epoch)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
