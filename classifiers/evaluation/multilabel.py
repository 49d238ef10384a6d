"""Metrics of several classes a sample, by scikit-learn."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from classifiers.evaluation.calibration import Calibration, calibration_of
from walloc_cdl.errors import CallError

THRESHOLD = 0.5
"""Probability above which a class counts as predicted."""

CLASS_LISTS = ("samples", "predicted", "correct", "average_precision", "auc")


@dataclass(frozen=True)
class MultilabelMetrics:
    """The metrics of one evaluation of a classifier of several classes a sample."""

    num_samples: int
    num_classes: int
    mean_average_precision: float | None
    """mAP: mean of the average precision over the classes that occur; None if none does."""
    macro_f1: float
    """Mean over the classes that occur in the labels or the predictions, at a probability of 0.5."""
    micro_f1: float
    """F1 of all pairs of a sample and a class together."""
    exact_match: float
    """Share of the samples for which all classes are right."""
    auc: float | None
    """Mean area under the ROC curve over the classes that some samples have and some have not; None without any."""
    log_loss: float
    """Mean binary cross entropy over samples and classes, in nats."""
    ece: float
    """Expected calibration error of all probabilities."""
    calibration: Calibration
    """The bins of the calibration error, of the probability of each class for each sample."""
    classes: dict[str, list[float | None]]
    """Figures of each class in lists: numbers of `samples`, of those `predicted` and of those `correct`, and
    `average_precision` and `auc`, None where they are undefined."""

    def __post_init__(self) -> None:
        """Raises `CallError` for figures of classes of untrusted values that are none."""
        if tuple(sorted(self.classes)) != tuple(sorted(CLASS_LISTS)):
            raise CallError(f"classes: expected the lists {', '.join(CLASS_LISTS)}")
        if any(len(values) != self.num_classes for values in self.classes.values()):
            raise CallError(f"classes: expected lists of {self.num_classes} values")

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return dataclasses.asdict(self)

    def figures(self) -> dict[str, float]:
        """Returns the figures of all classes together that are known, by the name that people know them by."""
        named = {
            "mAP": self.mean_average_precision,
            "macro F1": self.macro_f1,
            "micro F1": self.micro_f1,
            "exact match": self.exact_match,
            "AUC": self.auc,
            "log loss": self.log_loss,
            "ECE": self.ece,
        }
        return {name: value for name, value in named.items() if value is not None}

    def rows(self) -> list[dict[str, float | None]]:
        """Returns the figures of each class by name, with its recall, precision and F1, None where undefined."""
        rows = []
        for number in range(self.num_classes):
            row = {name: self.classes[name][number] for name in CLASS_LISTS}
            samples, predicted, correct = (row[name] or 0 for name in CLASS_LISTS[:3])
            row["recall"] = correct / samples if samples else None
            row["precision"] = correct / predicted if predicted else None
            row["f1"] = 2 * correct / (samples + predicted) if samples + predicted else None
            rows.append(row)
        return rows

    def to_csv(self, class_names: Sequence[str] | None) -> str:
        """Returns a table with a heading and a row for each class; undefined figures are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        shares = ("recall", "precision", "f1", "average_precision", "auc")
        writer.writerow(["class", "name", "samples", "correct", "predicted", *shares])
        for number, row in enumerate(self.rows()):
            counts = [int(row[name] or 0) for name in ("samples", "correct", "predicted")]
            values = ["" if (value := row[name]) is None else f"{value:.6g}" for name in shares]
            writer.writerow([number, class_names[number] if class_names else "", *counts, *values])
        return text.getvalue()


def metrics_of_labels(probabilities: np.ndarray, labels: np.ndarray) -> MultilabelMetrics:
    """Compute the metrics of probabilities (N, L) against labels uint8 (N, L), 1 for each class that applies.

    Raises `CallError` if there is no sample.
    """
    if not len(labels):
        raise CallError("no sample has a label, so there is nothing to evaluate; choose a labeled split")
    truth, predicted = labels == 1, probabilities > THRESHOLD
    samples, times_predicted = truth.sum(0), predicted.sum(0)
    occurring = [number for number in range(truth.shape[1]) if samples[number]]
    both = [number for number in occurring if samples[number] < len(truth)]
    precisions: dict[int, float] = {
        number: float(average_precision_score(truth[:, number], probabilities[:, number])) for number in occurring
    }
    areas = {number: float(roc_auc_score(truth[:, number], probabilities[:, number])) for number in both}
    either = (samples + times_predicted) > 0
    each = probabilities.astype(np.float64).clip(np.finfo(np.float32).tiny, 1 - 2.0**-53)
    calibration = calibration_of(probabilities.reshape(-1), truth.reshape(-1))
    return MultilabelMetrics(
        num_samples=len(labels),
        num_classes=truth.shape[1],
        mean_average_precision=float(np.mean([*precisions.values()])) if precisions else None,
        macro_f1=_f1(truth[:, either], predicted[:, either], "macro"),
        micro_f1=_f1(truth, predicted, "micro"),
        exact_match=float(accuracy_score(truth, predicted)),
        auc=float(np.mean([*areas.values()])) if areas else None,
        log_loss=float(-np.where(truth, np.log(each), np.log1p(-each)).mean()),
        ece=calibration.error,
        calibration=calibration,
        classes={
            "samples": samples.tolist(),
            "predicted": times_predicted.tolist(),
            "correct": (truth & predicted).sum(0).tolist(),
            "average_precision": [precisions.get(number) for number in range(truth.shape[1])],
            "auc": [areas.get(number) for number in range(truth.shape[1])],
        },
    )


def _f1(truth: np.ndarray, predicted: np.ndarray, average: str) -> float:
    """Return the F1 of bool (N, L); 0 without any class."""
    if truth.shape[1] == 1:  # scikit-learn takes one column for two classes
        return float(f1_score(truth[:, 0], predicted[:, 0], zero_division=0.0))
    return float(f1_score(truth, predicted, average=average, zero_division=0.0)) if truth.shape[1] else 0.0
