"""Labels of every kind, collected while a source is scanned: classes, multiple classes per sample, numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS, Column
from datasets_prep.sources.core.label_values import UNKNOWN_TEXTS, class_value, is_unknown
from datasets_prep.sources.core.source import CLASSES, MULTI_LABEL, TARGETS
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL

MAX_CLASSES = 1_000_000
"""A column with more distinct values does not hold classes, and the names would fill the memory."""

MAX_MULTI_LABELS = 65_536
"""Most classes of a multi-label source, whose labels take one byte for each class and sample."""


class Labels(ABC):
    """The labels of all splits. The values of all splits share one numbering."""

    kind: str | None

    @abstractmethod
    def append(self, split: str, value: Any) -> None:
        """Append the label of the next sample of a split."""

    @abstractmethod
    def names(self) -> list[str] | None:
        """Return the names of the classes or targets; None if there are no labels at all."""

    @abstractmethod
    def close(self, split: str) -> np.ndarray:
        """Return the labels of a split, see `SplitListing.labels`. Call it after the last `append` to any split."""


class ClassLabels(Labels):
    """Class labels, given as names or numbers; see `label_values` for what is an unknown label.

    Classes are numbered in the order of `ordered_names`.
    """

    kind = CLASSES

    def __init__(self, names: Sequence[str] | None = None) -> None:
        """`names`: all class names in their order, if they are known; each value must then be one of them."""
        self._fixed = names is not None
        self._numbers: dict[str, int] = {name: number for number, name in enumerate(names or ())}
        self._columns: dict[str, Column] = {}

    def append(self, split: str, value: str | float | None) -> None:
        """See `Labels.append`. Raises `CallError` for a value that is no class, such as 0.5."""
        if split not in self._columns:
            self._columns[split] = Column(np.int64)
        if is_unknown(value) and not (self._fixed and value in self._numbers):  # a name that was declared is a class
            self._columns[split].append(UNKNOWN_LABEL)
            return
        text = str(class_value(value) if isinstance(value, float) else value)
        number = self._numbers.get(text)
        if number is None:
            if self._fixed:
                raise CallError(f"label {text[:60]!r} is not among the {len(self._numbers)} classes; check the labels")
            number = _assign_number(self._numbers, text, MAX_CLASSES)
        self._columns[split].append(number)

    def names(self) -> list[str] | None:
        """See `Labels.names`."""
        return (list(self._numbers) if self._fixed else ordered_names(self._numbers)) or None

    def close(self, split: str) -> np.ndarray:
        """Return int64 (N,), see `Labels.close`."""
        positions = _positions(self._numbers, self.names() or [])
        labels = self._columns.get(split, Column(np.int64)).array()
        for start in range(0, len(labels), CHUNK_ROWS):
            labels[start : start + CHUNK_ROWS] = positions[labels[start : start + CHUNK_ROWS]]
        return labels


class MultiLabels(Labels):
    """Zero or more classes for each sample, given as lists of names or integers."""

    kind = MULTI_LABEL

    def __init__(self, names: Sequence[str] | None = None) -> None:
        """`names`: known classes, which come first and in this order; further classes are added as they appear."""
        self._known = list(names or ())
        self._numbers: dict[str, int] = {name: number for number, name in enumerate(self._known)}
        self._values: dict[str, Column] = {}
        self._offsets: dict[str, Column] = {}
        """Per sample, where its values end in `_values`."""
        self._counts: dict[str, int] = {}

    def append(self, split: str, value: Iterable[str | int | None] | None) -> None:
        """See `Labels.append`. Unknown labels among the classes are ignored."""
        if split not in self._values:
            self._values[split], self._offsets[split], self._counts[split] = Column(np.int32), Column(np.int64), 0
        for item in value or ():
            if not is_unknown(item) or item in self._numbers:
                self._values[split].append(_assign_number(self._numbers, str(item), MAX_MULTI_LABELS))
                self._counts[split] += 1
        self._offsets[split].append(self._counts[split])

    def names(self) -> list[str] | None:
        """See `Labels.names`."""
        return self._known + ordered_names(self._numbers.keys() - set(self._known)) or None

    def close(self, split: str) -> np.ndarray:
        """Return uint8 (N, L) of zeros and ones, see `Labels.close`."""
        names = self.names() or []
        positions = _positions(self._numbers, names)
        if split not in self._values:
            return np.zeros((0, len(names)), np.uint8)
        values, ends = self._values[split].array(), self._offsets[split].array()
        labels, begin = Column(np.uint8), 0
        step = max(1, CHUNK_ROWS * 16 // max(len(names), 1))
        for start in range(0, len(ends), step):
            chunk = np.asarray(ends[start : start + step])
            block = np.zeros((len(chunk), len(names)), np.uint8)
            counts = np.diff(chunk, prepend=begin)
            block[np.repeat(np.arange(len(chunk)), counts), positions[values[begin : chunk[-1]]]] = 1
            labels.extend(block.reshape(-1))
            begin = int(chunk[-1])
        return labels.array().reshape(len(ends), len(names))


class Targets(Labels):
    """Regression targets, T for each sample; a value that is missing, empty, null or NaN is NaN."""

    kind = TARGETS

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the names of the T columns."""
        self._names = list(names)
        self._columns: dict[str, Column] = {}

    def append(self, split: str, value: Iterable[float | str | None]) -> None:
        """See `Labels.append`. Raises `CallError` for a value that is not a number."""
        if split not in self._columns:
            self._columns[split] = Column(np.float32)
        column = self._columns[split]
        for name, item in zip(self._names, value, strict=True):
            column.append(_number(name, item))

    def names(self) -> list[str] | None:
        """See `Labels.names`."""
        return self._names

    def close(self, split: str) -> np.ndarray:
        """Return float32 (N, T), see `Labels.close`."""
        values = self._columns.get(split, Column(np.float32)).array()
        return values.reshape(-1, len(self._names))


def ordered_names(values: Iterable[str]) -> list[str]:
    """Sort class names: numerically if all of them are integers, or else by code point.

    >>> ordered_names(["10", "9"]), ordered_names(["10", "9", "x"])
    (['9', '10'], ['10', '9', 'x'])
    """
    names = list(values)
    if all(name.removeprefix("-").isdecimal() and name.isascii() and len(name) < 19 for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _assign_number(numbers: dict[str, int], text: str, max_labels: int) -> int:
    number = numbers.setdefault(text, len(numbers))
    if number >= max_labels:
        raise CallError(
            f"more than {max_labels:,} distinct labels, such as {text[:60]!r}; choose a column of classes, or none"
        )
    return number


def _positions(numbers: dict[str, int], names: Sequence[str]) -> np.ndarray:
    """Map provisional class numbers to final ones, int64; the last entry is `UNKNOWN_LABEL`."""
    class_index = {name: position for position, name in enumerate(names)}
    return np.array([*(class_index[name] for name in numbers), UNKNOWN_LABEL], np.int64)


def _number(name: str, item: float | str | None) -> float:
    if item is None or (isinstance(item, str) and item.strip().lower() in UNKNOWN_TEXTS - {"-1", "-1.0"}):
        return math.nan
    try:
        return float(item)
    except (TypeError, ValueError) as error:
        raise CallError(f"target {name!r} is {str(item)[:60]!r}; expected a number, or nothing") from error
