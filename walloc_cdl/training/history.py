"""The figures of a run's epochs, which its checkpoints and its record have."""

from __future__ import annotations

from dataclasses import dataclass, field


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
