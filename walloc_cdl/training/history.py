"""The figures of a run's epochs, which its checkpoints and its record have, and of the one in progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from walloc_cdl.errors import CallError
from walloc_cdl.fields import damaged
from walloc_cdl.schema import Count, from_json
from walloc_cdl.training.checkpoint import REMEDY, copy_into

LOWER_IS_BETTER = ("loss", "mae", "rmse", "ece")
"""Metrics of which the smallest is best; of others it is the largest."""


@dataclass(frozen=True)
class EpochFigures:
    """What is known of one finished epoch."""

    loss: float
    """Mean training loss."""
    lr: float
    """Learning rate of the epoch's last update, that of the group of parameters with the largest one."""
    images_per_s: float
    """Training rate, without evaluation."""
    metrics: dict[str, float] | None = None
    """Metrics of the averaged weights after the epoch, by name; None if they were not evaluated."""


@dataclass
class History:
    """The figures of the finished epochs."""

    epochs: list[EpochFigures] = field(default_factory=list)
    elapsed_s: float = 0.0
    """Duration of all finished epochs together, without evaluation."""

    @property
    def losses(self) -> list[float]:
        """The mean training loss of each epoch."""
        return [figures.loss for figures in self.epochs]

    @property
    def images_per_s(self) -> list[float]:
        """The training rate of each epoch."""
        return [figures.images_per_s for figures in self.epochs]

    @property
    def metrics(self) -> list[dict[str, float] | None]:
        """The metrics of each epoch; None for one after which the weights were not evaluated."""
        return [figures.metrics for figures in self.epochs]

    @property
    def last_metrics(self) -> dict[str, float] | None:
        """The metrics of the last epoch that was evaluated."""
        return next((metrics for metrics in reversed(self.metrics) if metrics is not None), None)

    def best_epoch(self, metric: str) -> int | None:
        """Returns the number, from 0, of the epoch with the best metric, the first of equals; None before the first.

        Raises `CallError` for a metric that is not evaluated.
        """
        best: tuple[float, int] | None = None
        sign = 1 if metric in LOWER_IS_BETTER else -1
        for epoch, metrics in enumerate(self.metrics):
            if metrics is None:
                continue
            if metric not in metrics:
                raise CallError(f"eval_metric is {metric!r}; choose one of {', '.join(sorted(metrics))}")
            if best is None or sign * metrics[metric] < best[0]:
                best = sign * metrics[metric], epoch
        return None if best is None else best[1]

    def has_stalled(self, metric: str, patience: int) -> bool:
        """Returns whether the last `patience` evaluations were no better than the best one."""
        best = self.best_epoch(metric)
        return best is not None and sum(metrics is not None for metrics in self.metrics[best + 1 :]) >= patience


@dataclass(frozen=True)
class _Counts:
    """The plain values of an `EpochPart`."""

    updates: Count
    batches: Count
    elapsed_s: float


@dataclass
class EpochPart:
    """How far the current epoch is trained; nothing of it, at its beginning."""

    updates: int
    batches: int
    elapsed_s: float
    loss: Tensor
    """Sum of the losses of the updates, float32 ()."""

    @classmethod
    def begin(cls, device: torch.device) -> EpochPart:
        """Returns the part of an epoch before its first batch."""
        return cls(0, 0, 0.0, torch.zeros((), device=device))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, without the loss."""
        return {"updates": self.updates, "batches": self.batches, "elapsed_s": self.elapsed_s}

    @classmethod
    def from_json(
        cls,
        values: Any,
        tensors: dict[str, Tensor],
        num_batches: int,
        batches_per_update: int,
        device: torch.device,
        origin: str,
    ) -> EpochPart:
        """Inverse of `to_json`, with the tensor `loss`; raises `DamagedError`, naming `origin`."""
        counts = from_json(_Counts, values, f"{origin}, part", remedy=REMEDY)
        if counts.batches and not counts.batches == counts.updates * batches_per_update < num_batches:
            expected = f"{batches_per_update} batches an update, fewer than {num_batches} in all"
            raise damaged(f"{origin}, part", values, expected, REMEDY)
        part = cls(counts.updates, counts.batches, counts.elapsed_s, torch.zeros((), device=device))
        copy_into({"loss": part.loss}, tensors, origin=origin)
        return part
