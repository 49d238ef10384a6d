"""`FidelityOutcome`: what a classifier saw of images in several stored forms; its JSON, its tables, its differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.comparison.differences import Difference, paired_sample_difference
from walloc_cdl.errors import CallError
from walloc_cdl.schema import from_json

FORMAT, FORMAT_VERSION = "walloc-cdl-fidelity", 1
REMEDY = "measure again"
ORIGINAL = "originals"
HEADINGS = {"psnr_db": "PSNR dB", "agreement": "same class", "top1": "top-1"}
"""Figures and what tables call them."""


@dataclass(frozen=True)
class StoredOutcome:
    """The images stored in one form at one number of bytes; lists have a value for each image."""

    stored: str
    budget: int
    """Bytes that each image may take."""
    num_bytes: list[int]
    """Bytes that each image took."""
    psnr_db: list[float | None]
    """PSNR of each restored image; None for one that is restored exactly."""
    predictions: list[int]
    """Class that the classifier predicts of each restored image."""


@dataclass(frozen=True)
class FidelityOutcome:
    """The result of a measurement."""

    codec: str
    classifier: str
    source: str
    preparation: dict[str, Any]
    """See `Preparation.to_json`."""
    keys: list[str]
    """Key of each image."""
    labels: list[int]
    """Number of each image's class; -1 if it is unknown to the classifier."""
    predictions: list[int]
    """Class that the classifier predicts of each image as it is."""
    outcomes: list[StoredOutcome]
    """Those of the codec first."""
    num_skipped: int
    """Images that could not be used."""
    settings: dict[str, Any]
    """Further settings, such as the weights of the classifier."""

    def __post_init__(self) -> None:
        if not self.keys or not self.outcomes:
            raise CallError("no image, or no form of storage")
        number = len(self.keys)
        lists = [self.labels, self.predictions]
        for each in self.outcomes:
            lists += [each.num_bytes, each.psnr_db, each.predictions]
        if any(len(values) != number for values in lists):
            raise CallError(f"lists of other lengths than the {number} keys")

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: a summary of each form, and the values of each image."""
        summary = [self._summary(each) for each in self.outcomes]
        differences = [difference.to_json() | {"figure": figure} for figure, difference in self.all_differences()]
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "num_images": len(self.keys),
            "num_labeled": self.num_labeled,
            "top1": self.top1(self.predictions),
            "summary": summary,
            "differences": differences,
            "images": asdict(self),
        }

    @property
    def num_labeled(self) -> int:
        """Number of images whose class is known."""
        return sum(label >= 0 for label in self.labels)

    def top1(self, predictions: Sequence[int]) -> float | None:
        """Returns the share of the labeled images whose class is predicted; None without labels."""
        return _mean(self._right(predictions))

    def agreement(self, outcome: StoredOutcome) -> float:
        """Returns the share of the images on which the prediction is that on the original."""
        return float(np.mean(self._same(outcome)))

    def differences(self, figure: str) -> list[Difference]:
        """Returns the differences of the codec to the other forms at equal budgets, and of each form to the originals.

        `figure` is `psnr_db`, `agreement` or `top1`. Only the share of right classes is compared with the originals.
        There is no difference of top-1 without labels, and none of the PSNR if an image is restored exactly.
        """
        own = [each for each in self.outcomes if each.stored == self.codec]
        pairs = []
        for each in own:
            for other in self.outcomes:
                if other.stored != self.codec and other.budget == each.budget:
                    pairs.append((each, _name(other), self._values(figure, other)))
            if figure == "top1":
                pairs.append((each, ORIGINAL, self._right(self.predictions)))
        found = [(_name(each), self._values(figure, each), name, values) for each, name, values in pairs]
        return [
            paired_sample_difference((first, values), (second, others))
            for first, values, second, others in found
            if len(values) and np.isfinite(values).all() and np.isfinite(others).all()
        ]

    def all_differences(self) -> list[tuple[str, Difference]]:
        """Returns the differences of all figures, each with the name of the figure."""
        return [(figure, each) for figure in HEADINGS for each in self.differences(figure)]

    def table(self, shown: Callable[[str], str] = str) -> tuple[list[str], list[list[str]]]:
        """Returns headings and rows, one for each form and number of bytes; `shown` escapes names for a medium."""
        labeled = self.num_labeled > 0
        headings = ["stored", "bytes", *(name for name in HEADINGS.values() if name != "top-1" or labeled)]
        rows = [[ORIGINAL, "–", "–", "1", *([f"{self.top1(self.predictions):.3f}"] if labeled else [])]]
        for each in self.outcomes:
            summary = self._summary(each)
            psnr = "infinite" if summary["psnr_db"] is None else f"{summary['psnr_db']:.2f}"
            top1 = [f"{summary['top1']:.3f}"] if labeled else []
            cells = [f"{summary['bytes']:,.0f}", psnr, f"{summary['agreement']:.3f}", *top1]
            rows.append([shown(each.stored), *cells])
        return headings, rows

    def difference_table(self, shown: Callable[[str], str] = str) -> tuple[list[str], list[list[str]]]:
        """Returns headings and rows of the differences, with 95 % intervals; a row for each pair."""
        by_pair: dict[tuple[str, str], dict[str, Difference]] = {}
        for figure, difference in self.all_differences():
            by_pair.setdefault((difference.condition, difference.baseline), {})[figure] = difference
        figures = [figure for figure in HEADINGS if figure != "top1" or self.num_labeled]
        headings = ["difference [95 %]", *(HEADINGS[figure] for figure in figures)]
        rows = []
        for (first, second), found in by_pair.items():
            cells = [_interval(found.get(figure), 2 if figure == "psnr_db" else 3) for figure in figures]
            rows.append([shown(f"{first} − {second}"), *cells])
        return headings, rows

    def notes(self) -> list[str]:
        """Returns sentences on the images and on files that did not fit."""
        skipped = f", {self.num_skipped:,} could not be used" if self.num_skipped else ""
        known = f"{self.num_labeled:,} of known class" if self.num_labeled else "none of known class"
        lines = [f"{len(self.keys):,} images ({known}{skipped}), {self.classifier}"]
        for each in self.outcomes:
            over = sum(size > each.budget for size in each.num_bytes)
            if over:
                lines.append(f"{_name(each)}: {over:,} files of the lowest quality are larger")
        return lines

    def _summary(self, each: StoredOutcome) -> dict[str, Any]:
        psnr = [math.inf if value is None else value for value in each.psnr_db]
        mean = float(np.mean(psnr))
        return {
            "stored": each.stored,
            "budget": each.budget,
            "bytes": float(np.mean(each.num_bytes)),
            "psnr_db": mean if math.isfinite(mean) else None,
            "agreement": self.agreement(each),
            "top1": self.top1(each.predictions),
        }

    def _values(self, figure: str, each: StoredOutcome) -> np.ndarray:
        if figure == "psnr_db":
            return np.array([math.inf if value is None else value for value in each.psnr_db])
        return self._same(each) if figure == "agreement" else self._right(each.predictions)

    def _same(self, each: StoredOutcome) -> np.ndarray:
        return (np.array(each.predictions) == np.array(self.predictions)).astype(float)

    def _right(self, predictions: Sequence[int]) -> np.ndarray:
        labels = np.array(self.labels)
        return (np.array(predictions) == labels)[labels >= 0].astype(float)


def outcome_from_json(value: Any, where: str) -> FidelityOutcome:
    """Returns the outcome in the JSON that `to_json` made; raises `CallError` or `DamagedError` for anything else."""
    if not isinstance(value, dict) or (value.get("format"), value.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise CallError(f"{where} is not the JSON of `cdl codec eval --classifier`; {REMEDY}")
    return from_json(FidelityOutcome, value.get("images"), where, remedy=REMEDY)


def pool(parts: Sequence[FidelityOutcome]) -> FidelityOutcome:
    """Returns the outcome over the images of all parts, such as those of codecs that were fitted to the other halves.

    Raises `CallError` unless all were measured with one classifier, one preparation, the same forms and budgets.
    """
    first = parts[0]

    def shape(part: FidelityOutcome) -> tuple[object, ...]:
        forms = [(each.stored if each.stored != part.codec else None, each.budget) for each in part.outcomes]
        return part.classifier, part.preparation, part.settings, forms

    for part in parts[1:]:
        if shape(part) != shape(first):
            raise CallError(
                f"results of {first.codec} and {part.codec} differ in classifier, preparation, forms or numbers of "
                "bytes; measure both with the same options"
            )
    codec = " and ".join(dict.fromkeys(part.codec for part in parts))
    outcomes, lists = [], ("num_bytes", "psnr_db", "predictions")
    for number, each in enumerate(first.outcomes):
        same = [part.outcomes[number] for part in parts]
        outcomes.append(
            StoredOutcome(
                codec if each.stored == first.codec else each.stored,
                each.budget,
                *([value for one in same for value in getattr(one, name)] for name in lists),
            )
        )
    joined = {
        name: [value for part in parts for value in getattr(part, name)] for name in ("keys", "labels", "predictions")
    }
    return FidelityOutcome(
        codec=codec,
        classifier=first.classifier,
        source=" and ".join(dict.fromkeys(part.source for part in parts)),
        preparation=first.preparation,
        outcomes=outcomes,
        num_skipped=sum(part.num_skipped for part in parts),
        settings=first.settings,
        **joined,
    )


def _name(each: StoredOutcome) -> str:
    return f"{each.stored} at {each.budget:,}"


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _interval(difference: Difference | None, digits: int) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return "–"
    mean, low, high = (f"{value:+.{digits}f}" for value in (difference.mean, difference.low, difference.high))
    return f"{mean} [{low}, {high}]"
