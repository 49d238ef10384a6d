"""The metrics of each kind of label."""

from __future__ import annotations

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


def metrics_type(label_kind: object, origin: str) -> type[AnyMetrics]:
    """Returns the type of the metrics for the kind of label of a run; `DamagedError`, naming `origin`, for another."""
    if not isinstance(label_kind, str) or label_kind not in METRICS:
        raise damaged(f"{origin}, label_kind", label_kind, f"one of {', '.join(METRICS)}", REMEDY)
    return METRICS[label_kind]
