"""`RunRecord`: what a training run leaves, as one JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from classifiers.metrics import Metrics
from walloc_cdl.errors import DamagedError


@dataclass(frozen=True)
class RunRecord:
    """The result of a run, with all that it depends on."""

    config: dict[str, Any]
    """`classifier`, `train` and `data`, as in the run's config.json."""
    seeds: dict[str, int]
    commit: str | None
    """Commit of this program, `+` behind it where files differed from it; None where it cannot be known."""
    environment: dict[str, Any]
    """Versions, processor, threads, device, precision."""
    metrics: Metrics | None
    """Of the averaged weights on the validation data; None if there were none."""
    elapsed_s: float
    """Training, evaluation left out; of all sessions of a resumed run together."""
    images_per_s: float
    """Training rate: the median over the epochs."""
    losses: list[float]
    """Mean training loss of each epoch."""
    weights_sha256: str
    """Of model.safetensors."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for canonical JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any, *, origin: str) -> RunRecord:
        """Inverse of `to_json` for untrusted values; raises `DamagedError`, naming `origin`."""
        try:
            metrics = fields["metrics"]
            return cls(**{**fields, "metrics": None if metrics is None else Metrics(**metrics)})
        except (KeyError, TypeError) as error:
            raise DamagedError(f"{origin}: not the record of a run ({error}); train again") from error
