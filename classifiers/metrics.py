"""Classification metrics, computed by scikit-learn."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class Metrics:
    """The metrics of one evaluation."""

    num_samples: int
    """Number of labeled samples; samples of unknown label are left out."""
    accuracy: float
    macro_f1: float
    """Mean over the classes that occur in the labels or the predictions."""
    auc: float | None
    """Area under the ROC curve of class 1's probability; None unless there are two classes and both occur."""
    confusion: list[list[int]]
    """Number of samples by true class (rows) and predicted class (columns)."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise CallError(f"a confusion matrix of {len(self.confusion)} classes, and a row of another length")

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return dataclasses.asdict(self)


def compute_metrics(probabilities: np.ndarray, labels: np.ndarray) -> Metrics:
    """Compute the metrics of probabilities (N, num_classes) against labels int64 (N,), -1 where unknown.

    Raises `CallError` if no label is known, or if one is not below `num_classes`.
    """
    known = labels >= 0
    probabilities, labels = probabilities[known], labels[known]
    num_classes = probabilities.shape[1]
    if not len(labels):
        raise CallError("no sample has a label, so there is nothing to evaluate; choose a labeled split")
    if labels.max() >= num_classes:
        raise CallError(f"label {labels.max()}, but the model has {num_classes} classes, numbered from 0")
    predicted = probabilities.argmax(1)
    binary = num_classes == 2 and 0 < labels.sum() < len(labels)
    return Metrics(
        num_samples=len(labels),
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        auc=float(roc_auc_score(labels, probabilities[:, 1])) if binary else None,
        confusion=confusion_matrix(labels, predicted, labels=np.arange(num_classes)).tolist(),
    )
