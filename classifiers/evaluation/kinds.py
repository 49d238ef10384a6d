"""The metrics of each kind of label."""

from __future__ import annotations

import dataclasses
import math

from classifiers.evaluation.metrics import Metrics
from classifiers.evaluation.multilabel import MultilabelMetrics
from classifiers.evaluation.regression import RegressionMetrics
from classifiers.models.config import LABEL_KINDS
from walloc_cdl.fields import damaged
from walloc_cdl.training.checkpoint import REMEDY

AnyMetrics = Metrics | MultilabelMetrics | RegressionMetrics

METRICS: dict[str, type[AnyMetrics]] = dict(
    zip(LABEL_KINDS, (Metrics, MultilabelMetrics, RegressionMetrics), strict=True)
)
"""Type of the metrics by kind of label."""

MAIN_METRICS = dict(zip(LABEL_KINDS, ("accuracy", "mean_average_precision", "mae"), strict=True))
"""The metric that decides by kind of label which epoch is best."""


def metric_names(label_kind: str) -> list[str]:
    """Returns the names of the metrics of a kind of label that `main_figures` may have."""
    fields = dataclasses.fields(METRICS[label_kind])
    return [each.name for each in fields if str(each.type).split(" ")[0] == "float"]


def main_figures(metrics: AnyMetrics) -> dict[str, float]:
    """Returns the numbers among the metrics, by name, which are followed from epoch to epoch."""
    figures = {each.name: getattr(metrics, each.name) for each in dataclasses.fields(metrics)}
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and not name.startswith("num_")
    }


def metrics_type(label_kind: object, origin: str) -> type[AnyMetrics]:
    """Returns the type of the metrics for the kind of label of a run; `DamagedError`, naming `origin`, for another."""
    if not isinstance(label_kind, str) or label_kind not in METRICS:
        raise damaged(f"{origin}, label_kind", label_kind, f"one of {', '.join(METRICS)}", REMEDY)
    return METRICS[label_kind]
