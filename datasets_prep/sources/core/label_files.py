"""Labels in a text file beside a flat folder: a line `NAME LABEL` for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.label_kinds import MAX_CLASSES, ordered_names
from datasets_prep.sources.core.source import CLASSES, Source
from datasets_prep.sources.core.text_files import CONVERT, open_text
from walloc_cdl.errors import CallError

MAX_LINE_CHARACTERS = 65_536

UNLABELED = -2
"""Marks samples whose line has not been read yet."""


class LabeledSource(DerivedSource):
    """A flat source with labels from a file. Lines for images that the source does not have are skipped.

    Raises `CallError` for a source with labels or folders of its own, and for images without a line.
    """

    def __init__(self, source: Source, path: Path) -> None:
        if source.class_names is not None:
            raise CallError(f"source {source.name} has classes of its own; use --labels with a folder without classes")
        numbers: dict[str, int] = {}
        found = {split: np.full(source.num_samples(split), UNLABELED, np.int64) for split in source.split_names}
        for split in source.split_names:
            _require_flat(source, split)
        for line, name, label in label_lines(path):
            for split, labels in found.items():
                row = _row_of(source.listing.splits[split].keys, name)
                if row is None:
                    continue
                number = numbers.setdefault(label, len(numbers))
                if number >= MAX_CLASSES:
                    raise CallError(f"{str(path)!r} has more than {MAX_CLASSES:,} distinct labels; give class labels")
                if labels[row] not in (UNLABELED, number):
                    raise CallError(f"{str(path)!r}, line {line}: a second label for {name!r}; keep one")
                labels[row] = number
        names = ordered_names(numbers)
        class_index = {name: position for position, name in enumerate(names)}
        positions = np.array([class_index[name] for name in numbers], np.int64)
        for split, labels in found.items():
            missing = np.flatnonzero(labels == UNLABELED)
            if len(missing):
                first = source.key(split, int(missing[0]))
                raise CallError(f"{str(path)!r} has no label for {len(missing):,} images ({first} is the first)")
            found[split] = positions[labels]
        splits = {split: replace(source.listing.splits[split], labels=labels) for split, labels in found.items()}
        super().__init__(source, replace(source.listing, splits=splits, class_names=names, label_kind=CLASSES))


def label_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and label. A tab separates name and label, or else a comma, or else spaces.

    Empty lines are skipped. Raises `CallError` for a file that cannot be read, such as a pipe, and for a line of
    another form.
    """
    try:
        with open_text(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS), ""), 1):
                text = line.strip()
                if not text:
                    continue
                separator = next((mark for mark in ("\t", ",") if mark in text), None)
                parts = [part.strip() for part in text.rsplit(separator, 1)]
                if len(parts) != 2 or not all(parts):
                    raise CallError(f"{str(path)!r}, line {number}: {text[:60]!r}; expected a name and its label")
                yield number, parts[0], parts[1]
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or f"it is not UTF-8 text; {CONVERT}"
        raise CallError(f"label file {str(path)!r} cannot be read: {cause}; expected lines of NAME LABEL") from error


def _require_flat(source: Source, split: str) -> None:
    """Raise `CallError` unless keys contain no folders and are sorted by their text, as `_row_of` needs them."""
    keys, last = source.listing.splits[split].keys, None
    for start in range(0, len(keys), CHUNK_ROWS):
        for key in keys[start : start + CHUNK_ROWS]:
            if "/" in key or (last is not None and key <= last):
                raise CallError(f"source {source.name} has {key!r}; a label file needs a flat folder of images")
            last = key


def _row_of(keys: Sequence[str], name: str) -> int | None:
    """Find the row of a name by bisection; None if there is none."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < name:
            low = middle + 1
        else:
            high = middle
    return low if low < len(keys) and keys[low] == name else None
