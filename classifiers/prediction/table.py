"""`PredictionTable`: the most probable classes of samples, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from walloc_cdl.errors import CallError, utf8_text

DIGITS = 6
"""Significant digits of probabilities in files."""


@dataclass(frozen=True)
class PredictedSample:
    """A sample with its most probable classes."""

    name: str
    """The path of a file, or the key of a stored sample."""
    top: tuple[tuple[int, float], ...]
    """Numbers of classes and their probabilities, the most probable first."""
    label: int | None = None
    """The number of the true class; None if it is unknown."""

    @property
    def predicted(self) -> int:
        """The number of the most probable class."""
        return self.top[0][0]


@dataclass
class PredictionTable:
    """Predictions of samples in their order, and the files that could not be read."""

    class_names: Sequence[str] | None
    num_top: int = 1
    """Number of classes that are kept of each sample; of regression all targets are."""
    label_kind: str = "class"
    """`class`, `multilabel`, whose classes have independent probabilities, or `regression`: `class_names` are then the
    names of the targets, and their values take the place of probabilities."""
    samples: list[PredictedSample] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Names and reasons."""

    def append(self, names: Sequence[str], probabilities: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Append samples of probabilities, or targets, (N, num_classes) and labels int64 (N,), -1 where unknown."""
        if self.label_kind == "regression":
            order = np.tile(np.arange(probabilities.shape[1]), (len(probabilities), 1))
        else:
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.num_top]
        for row, (name, numbers) in enumerate(zip(names, order.tolist(), strict=True)):
            top = tuple((number, float(probabilities[row, number])) for number in numbers)
            label = None if labels is None or labels[row] < 0 else int(labels[row])
            self.samples.append(PredictedSample(utf8_text(name), top, label))

    def class_name(self, number: int) -> str:
        """Returns the name of a class, or its number if it has none."""
        return self.class_names[number] if self.class_names and number < len(self.class_names) else str(number)

    def share_text(self, share: float) -> str:
        """Returns a probability as a percentage, or the value of a target."""
        return f"{share:.4g}" if self.label_kind == "regression" else f"{share:.1%}"

    @property
    def num_labeled(self) -> int:
        """Number of samples whose class is known."""
        return sum(sample.label is not None for sample in self.samples)

    @property
    def num_correct(self) -> int:
        """Number of samples whose most probable class is the true one."""
        return sum(sample.label == sample.predicted for sample in self.samples)

    def to_csv(self) -> str:
        """Returns a heading and a line for each sample and for each unreadable file, whose `error` is not empty."""
        if self.label_kind == "regression":
            return self._targets_csv()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        others = [f"{part}_{place}" for place in range(2, self.num_top + 1) for part in ("class", "probability")]
        is_labeled = self.num_labeled > 0
        writer.writerow(["file", *(["label"] if is_labeled else []), "class", "probability", *others, "error"])
        for sample in self.samples:
            label = [] if not is_labeled else ["" if sample.label is None else self.class_name(sample.label)]
            guesses = [
                part for number, share in sample.top for part in (self.class_name(number), f"{share:.{DIGITS}g}")
            ]
            writer.writerow([sample.name, *label, *guesses, *[""] * (2 * (self.num_top - len(sample.top))), ""])
        for name, reason in self.unreadable:
            writer.writerow([name, *([""] if is_labeled else []), *[""] * (2 * self.num_top), reason])
        return text.getvalue()

    def _targets_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        count = max((len(sample.top) for sample in self.samples), default=len(self.class_names or ()))
        writer.writerow(["file", *map(self.class_name, range(count)), "error"])
        for sample in self.samples:
            writer.writerow([sample.name, *(f"{value:.{DIGITS}g}" for _, value in sample.top), ""])
        for name, reason in self.unreadable:
            writer.writerow([name, *[""] * count, reason])
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        unreadable = [{"file": name, "reason": reason} for name, reason in self.unreadable]
        if self.label_kind == "regression":
            predictions = [
                {
                    "file": sample.name,
                    "targets": {self.class_name(number): _rounded(value) for number, value in sample.top},
                }
                for sample in self.samples
            ]
            return {"predictions": predictions, "unreadable": unreadable}
        return {
            "classes": None if self.class_names is None else list(self.class_names),
            "predictions": [
                {
                    "file": sample.name,
                    "class": self.class_name(sample.predicted),
                    "probability": _rounded(sample.top[0][1]),
                    "top": [
                        {"class": self.class_name(number), "probability": _rounded(share)}
                        for number, share in sample.top
                    ],
                    **({} if sample.label is None else {"label": self.class_name(sample.label)}),
                }
                for sample in self.samples
            ],
            "unreadable": unreadable,
        }


def require_top(num_top: int, num_classes: int) -> int:
    """Returns the number of classes that are kept, at most all; raises `CallError` for less than one."""
    if num_top < 1:
        raise CallError(f"top is {num_top}; expected at least 1")
    return min(num_top, num_classes)


def _rounded(share: float) -> float:
    return float(f"{share:.{DIGITS}g}")
