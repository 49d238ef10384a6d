"""`RunRecord`: the result of a training run as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from walloc_cdl.fields import damaged
from walloc_cdl.schema import Sha256, from_json
from walloc_cdl.training.checkpoint import REMEDY
from walloc_cdl.training.history import EpochFigures

MetricsT = TypeVar("MetricsT")
"""The metrics of the trained model: a dataclass of plain values."""


@dataclass(frozen=True)
class RunRecord(Generic[MetricsT]):
    """The result of a run, with everything that it depends on."""

    config: dict[str, Any]
    """The run's configuration, as in its config.json."""
    seeds: dict[str, int]
    commit: str | None
    """Commit of this program, as `source_commit` returns it."""
    environment: dict[str, Any]
    """Versions, processor, threads, device, precision."""
    metrics: MetricsT | None
    """Metrics of the averaged weights on the validation data; None if there were none."""
    elapsed_s: float
    """Duration of training without evaluation; for a resumed run, over all calls."""
    images_per_s: float
    """Training rate: the median over the epochs."""
    history: list[EpochFigures]
    """Loss, learning rate, rate and metrics of each epoch."""
    epoch: int
    """Number of the epoch, from 1, after which the saved weights were averaged: the last one or the best."""
    weights_sha256: Sha256
    """SHA-256 of model.safetensors."""

    @property
    def losses(self) -> list[float]:
        """The mean training loss of each epoch."""
        return [figures.loss for figures in self.history]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any, metrics_type: type[MetricsT], *, origin: str) -> RunRecord[MetricsT]:
        """Inverse of `to_json` for untrusted values; raises `DamagedError`, naming `origin`.

        `metrics_type` is the dataclass of the metrics.
        """
        record: RunRecord[Any] = from_json(cls, fields, origin, remedy=REMEDY)
        if not record.history:
            raise damaged(f"{origin}, history", record.history, "the figures of each epoch", REMEDY)
        if record.metrics is None:
            return record
        metrics = from_json(metrics_type, record.metrics, f"{origin}, metrics", remedy=REMEDY)
        return dataclasses.replace(record, metrics=metrics)
