"""Metrics of one class a sample, by scikit-learn, in memory that does not grow with the square of the classes."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from classifiers.evaluation.calibration import Calibration, calibration_of
from walloc_cdl.errors import CallError

MAX_CLASSES = 10**7
"""Largest number of classes that is believed of a file."""

MAX_COUNT = 2**48
"""Bound of the counts that are believed of a file; their sums fit into 64 bits."""

CONFUSION_LISTS = {"true", "predicted", "count"}

TOP = 5
"""Number of the most probable classes among which top-5 accuracy looks for the label."""


@dataclass(frozen=True)
class Metrics:
    """The metrics of one evaluation of a classifier of one class a sample.

    Those that need more than the predicted classes are None if only these are known.
    """

    num_samples: int
    """Number of labeled samples; samples of unknown label are left out."""
    num_classes: int
    accuracy: float
    macro_f1: float
    """Mean over the classes that occur in the labels or the predictions."""
    auc: float | None
    """Area under the ROC curve of class 1's probability; of more than two classes, the mean over the classes that
    occur, each against the rest. None if fewer than two classes occur."""
    confusion: dict[str, list[int]]
    """The confusion matrix without its zeros, in the order of its rows: lists `true`, `predicted` and `count`, with one
    entry for each pair of classes that occurs, at most as many as samples."""
    top5: float | None = None
    """Share of the samples whose label is among the five most probable classes; None for five classes or fewer."""
    log_loss: float | None = None
    """Mean of -log p of the label, in nats."""
    ece: float | None = None
    """Expected calibration error: the mean distance of confidence and accuracy over bins of confidence."""
    calibration: Calibration | None = None
    """The bins of the calibration error, of the most probable class."""

    def __post_init__(self) -> None:
        """Raises `CallError` for a confusion matrix of untrusted values that is none."""
        matrix = self.confusion
        if type(self.num_classes) is not int or not 1 <= self.num_classes <= MAX_CLASSES:
            raise CallError(f"num_classes is {self.num_classes!r}")
        if not isinstance(matrix, dict) or matrix.keys() != CONFUSION_LISTS:
            raise CallError("confusion is not a sparse matrix")
        if not all(isinstance(numbers, list) for numbers in matrix.values()):
            raise CallError("confusion has values that are not lists")
        if len({len(numbers) for numbers in matrix.values()}) != 1:
            raise CallError("confusion has lists of different lengths")
        limits = {"true": self.num_classes, "predicted": self.num_classes, "count": MAX_COUNT}
        for name, limit in limits.items():
            if not all(type(number) is int and 0 <= number < limit for number in matrix[name]):
                raise CallError(f"confusion has a value of {name} that is not a number from 0 to {limit - 1}")

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return dataclasses.asdict(self)

    def figures(self) -> dict[str, float]:
        """Returns the figures of all classes together that are known, by the name that people know them by."""
        named = {
            "accuracy": self.accuracy,
            "top-5 accuracy": self.top5,
            "macro F1": self.macro_f1,
            "AUC": self.auc,
            "log loss": self.log_loss,
            "ECE": self.ece,
        }
        return {name: value for name, value in named.items() if value is not None}

    def to_csv(self, class_names: Sequence[str] | None) -> str:
        """Returns the figures of each class as CSV; see `ClassTable.to_csv`."""
        return class_table(self).to_csv(class_names)


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Figures of each class, int64 or float64 (num_classes,)."""

    samples: np.ndarray
    correct: np.ndarray
    predicted: np.ndarray
    """Number of samples for which the class was predicted."""
    recall: np.ndarray
    """NaN for a class without samples."""
    precision: np.ndarray
    """NaN for a class that was never predicted."""
    f1: np.ndarray
    """NaN for a class that occurs in neither."""

    def worst(self, count: int) -> list[int]:
        """Returns the numbers of the classes with the lowest recall, the most frequent of equal ones first."""
        occurring = np.flatnonzero(self.samples)
        order = np.lexsort((occurring, -self.samples[occurring], self.recall[occurring]))
        return occurring[order[:count]].tolist()

    def to_csv(self, class_names: Sequence[str] | None) -> str:
        """Returns the table with a heading and a row for each class; undefined figures are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["class", "name", "samples", "correct", "predicted", "recall", "precision", "f1"])
        for number in range(len(self.samples)):
            shares = (float(figures[number]) for figures in (self.recall, self.precision, self.f1))
            counts = (int(figures[number]) for figures in (self.samples, self.correct, self.predicted))
            name = class_names[number] if class_names else ""
            writer.writerow([number, name, *counts, *("" if share != share else f"{share:.6g}" for share in shares)])
        return text.getvalue()


def compute_metrics(probabilities: np.ndarray, labels: np.ndarray) -> Metrics:
    """Compute the metrics of probabilities (N, num_classes) against labels int64 (N,), -1 where unknown.

    Raises `CallError` if no label is known, or if one is not below `num_classes`.
    """
    known = labels >= 0
    of_label = np.full(len(labels), np.nan)
    if known.any() and labels.max() < probabilities.shape[1]:
        of_label[known] = probabilities[known, labels[known]]
    ranks = (probabilities > of_label[:, None]).sum(1)
    return metrics_of_classes(
        probabilities.argmax(1),
        labels,
        probabilities.shape[1],
        scores=ClassScores(probabilities.max(1), of_label, ranks, probabilities),
    )


@dataclass(frozen=True, eq=False)
class ClassScores:
    """What the metrics of N samples need besides the predicted classes."""

    confidence: np.ndarray
    """Probabilities (N,) of the predicted classes."""
    label_probability: np.ndarray
    """Probabilities (N,) of the labels; NaN where the label is unknown."""
    label_rank: np.ndarray
    """Number of classes that are more probable than the label, int (N,); of no meaning where it is unknown."""
    probabilities: np.ndarray | None = None
    """Probabilities (N, num_classes); None, and then there is no AUC, where they would take too much memory."""


def metrics_of_classes(
    predicted: np.ndarray, labels: np.ndarray, num_classes: int, *, scores: ClassScores | None = None
) -> Metrics:
    """Compute the metrics of predicted classes int64 (N,) against labels int64 (N,), -1 where unknown.

    Raises `CallError` as `compute_metrics` does.
    """
    known = labels >= 0
    predicted, labels = predicted[known].astype(np.int64), labels[known].astype(np.int64)
    if not len(labels):
        raise CallError("no sample has a label, so there is nothing to evaluate; choose a labeled split")
    if labels.max() >= num_classes:
        raise CallError(f"label {labels.max()}, but the model has {num_classes} classes, numbered from 0")
    pairs, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    true, others = np.divmod(pairs, num_classes)
    metrics = Metrics(
        num_samples=len(labels),
        num_classes=num_classes,
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        auc=None,
        confusion={"true": true.tolist(), "predicted": others.tolist(), "count": [int(n) for n in counts]},
    )
    if scores is None:
        return metrics
    calibration = calibration_of(scores.confidence[known], predicted == labels)
    least = np.finfo(np.float32).tiny
    return dataclasses.replace(
        metrics,
        auc=None if scores.probabilities is None else _auc(scores.probabilities[known], labels),
        top5=float((scores.label_rank[known] < TOP).mean()) if num_classes > TOP else None,
        log_loss=float(-np.log(np.maximum(scores.label_probability[known].astype(np.float64), least)).mean()),
        ece=calibration.error,
        calibration=calibration,
    )


def _auc(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the area under the ROC curve of labels (N,), all known; see `Metrics.auc`."""
    occurring = np.unique(labels)
    if len(occurring) < 2:
        return None
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(np.mean([roc_auc_score(labels == each, probabilities[:, each]) for each in occurring]))


def class_table(metrics: Metrics) -> ClassTable:
    """Returns the figures of each class, which follow from the confusion matrix."""
    true, predicted, count = (np.asarray(metrics.confusion[name], np.int64) for name in ("true", "predicted", "count"))

    def total(numbers: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        return np.bincount(numbers[chosen], count[chosen], metrics.num_classes).astype(np.int64)

    samples, times_predicted, correct = total(true), total(predicted), total(true, true == predicted)
    with np.errstate(invalid="ignore"):
        shares = (correct / samples, correct / times_predicted, 2 * correct / (samples + times_predicted))
    return ClassTable(samples, correct, times_predicted, *shares)


def confused_classes(metrics: Metrics, number: int) -> list[tuple[int, int]]:
    """Returns (predicted class, count) for the samples of a class, the most frequent first."""
    true, predicted, count = (metrics.confusion[name] for name in ("true", "predicted", "count"))
    first, last = np.searchsorted(np.asarray(true), [number, number + 1])
    return sorted(zip(predicted[first:last], count[first:last], strict=True), key=lambda pair: (-pair[1], pair[0]))
