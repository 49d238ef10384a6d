"""Metrics of regression targets, by scikit-learn."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from walloc_cdl.errors import CallError

TARGET_LISTS = ("samples", "mae", "rmse", "r2")


@dataclass(frozen=True)
class RegressionMetrics:
    """The metrics of one evaluation of a model of regression targets; means are over the targets."""

    num_samples: int
    """Number of samples with at least one known target."""
    num_targets: int
    mae: float
    """Mean absolute error, in the units of the targets."""
    rmse: float
    """Root of the mean squared error, in the units of the targets."""
    r2: float | None
    """Coefficient of determination, 1 - squared error / variance; None for a single known sample."""
    targets: dict[str, list[float | None]]
    """Figures of each target in lists: `samples`, `mae`, `rmse`, `r2`; None where they are undefined."""

    def __post_init__(self) -> None:
        """Raises `CallError` for figures of targets of untrusted values that are none."""
        if tuple(sorted(self.targets)) != tuple(sorted(TARGET_LISTS)):
            raise CallError(f"targets: expected the lists {', '.join(TARGET_LISTS)}")
        if any(len(values) != self.num_targets for values in self.targets.values()):
            raise CallError(f"targets: expected lists of {self.num_targets} values")

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return dataclasses.asdict(self)

    def figures(self) -> dict[str, float]:
        """Returns the figures of all targets together that are known, by the name that people know them by."""
        named = {"MAE": self.mae, "RMSE": self.rmse, "R²": self.r2}
        return {name: value for name, value in named.items() if value is not None}

    def to_csv(self, target_names: Sequence[str] | None) -> str:
        """Returns a table with a heading and a row for each target; undefined figures are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["target", "name", *TARGET_LISTS])
        for number in range(self.num_targets):
            samples, *values = (self.targets[name][number] for name in TARGET_LISTS)
            name = target_names[number] if target_names else ""
            shown = ["" if value is None else f"{value:.6g}" for value in values]
            writer.writerow([number, name, int(samples or 0), *shown])
        return text.getvalue()


def metrics_of_targets(predicted: np.ndarray, targets: np.ndarray) -> RegressionMetrics:
    """Compute the metrics of predictions (N, T) against targets (N, T) or, for one target, (N,); NaN where unknown.

    Raises `CallError` if no target is known.
    """
    targets = targets.reshape(len(targets), -1).astype(np.float64)
    known = ~np.isnan(targets)
    if not known.any():
        raise CallError("no sample has a target, so there is nothing to evaluate; choose a labeled split")
    lists: dict[str, list[float | None]] = {name: [] for name in TARGET_LISTS}
    for number in range(targets.shape[1]):
        rows = known[:, number]
        truth, answer = targets[rows, number], predicted[rows, number].astype(np.float64)
        lists["samples"].append(int(rows.sum()))
        lists["mae"].append(float(mean_absolute_error(truth, answer)) if len(truth) else None)
        lists["rmse"].append(float(root_mean_squared_error(truth, answer)) if len(truth) else None)
        lists["r2"].append(float(r2_score(truth, answer)) if len(truth) > 1 else None)
    means = {}
    for name in TARGET_LISTS[1:]:
        values = [value for value in lists[name] if value is not None]
        means[name] = float(np.mean(values)) if values else None
    return RegressionMetrics(
        num_samples=int(known.any(1).sum()),
        num_targets=targets.shape[1],
        mae=means["mae"] or 0.0,
        rmse=means["rmse"] or 0.0,
        r2=means["r2"],
        targets=lists,
    )
