"""Labels in a text file beside the samples: a line `NAME LABEL` for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets_prep.samples.text_files import CONVERT, open_text
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.label_kinds import MAX_CLASSES, ordered_names
from datasets_prep.sources.core.label_notes import all_unknown_note, without_label_notes
from datasets_prep.sources.core.label_values import is_unknown
from datasets_prep.sources.core.sample_names import SampleNames
from datasets_prep.sources.core.source import CLASSES, Listing, Source
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL

MAX_LINE_CHARACTERS = 65_536


class LabeledSource(DerivedSource):
    """A source whose samples without a label get labels from a file; labels that it has are kept.

    A name in the file is a sample's key, with or without its folders and its suffix. Samples without a line keep their
    unknown label. Lines for other names are skipped and counted.

    Raises `CallError` for a source whose samples all have labels, for a file of which no line names a sample, for a
    name that several samples have, and for two labels of one sample.
    """

    def __init__(self, source: Source, path: Path) -> None:
        super().__init__(source, _labeled(source, path))


def _labeled(source: Source, path: Path) -> Listing:
    listing = source.listing
    found = {split: np.array(each.labels) for split, each in listing.splits.items()}
    is_flat = listing.label_kind in (None, CLASSES)
    if not is_flat or not any((labels == UNKNOWN_LABEL).any() for labels in found.values()):
        raise CallError(
            f"source {source.name} has classes of its own; use --labels with a source that has samples without a "
            "label, such as a folder without class folders"
        )
    numbers = {name: number for number, name in enumerate(listing.class_names or [])}
    given = {split: np.zeros(len(labels), bool) for split, labels in found.items()}
    names, skipped, line = SampleNames(source), _Skipped(), 0
    for line, name, label in label_lines(path):
        where = f"{str(path)!r}, line {line}"
        sample = names.find(name, where)
        if sample is None:
            skipped.add(line, name)
            continue
        split, row = sample
        number = UNKNOWN_LABEL if is_unknown(label) else numbers.setdefault(label, len(numbers))
        if number >= MAX_CLASSES:
            raise CallError(f"{str(path)!r} has more than {MAX_CLASSES:,} distinct labels; give class labels")
        if given[split][row] and found[split][row] != number:
            raise CallError(f"{where}: a second label for {name!r}; keep one")
        found[split][row], given[split][row] = number, True
    if not any(rows.any() for rows in given.values()):
        first = f"the first is {skipped.first!r}" if line else "it is empty"
        raise CallError(
            f"no line of {str(path)!r} names a sample of source {source.name} without a label: {first}; the samples "
            f"have names such as {names.example()!r}"
        )
    class_names = [*(listing.class_names or []), *ordered_names(list(numbers)[len(listing.class_names or []) :])]
    class_index = {name: position for position, name in enumerate(class_names)}
    positions = np.array([*(class_index[name] for name in numbers), UNKNOWN_LABEL], np.int64)
    notes = [*without_label_notes(source.notes), *skipped.notes(path)]
    if not class_names:
        notes.append(all_unknown_note(repr(str(path))))
    splits = {split: replace(listing.splits[split], labels=positions[labels]) for split, labels in found.items()}
    kind = CLASSES if class_names else None
    return replace(listing, splits=splits, class_names=class_names or None, label_kind=kind, notes=notes)


class _Skipped:
    """Counts the lines that name no sample."""

    def __init__(self) -> None:
        self.number, self.first, self._first_line = 0, "", 0

    def add(self, line: int, name: str) -> None:
        if not self.number:
            self.first, self._first_line = name, line
        self.number += 1

    def notes(self, path: Path) -> list[str]:
        """Return the message for users; a first line alone is taken for the names of columns."""
        if not self.number or (self.number, self._first_line) == (1, 1):
            return []
        return [f"{self.number:,} lines of {str(path)!r} name no sample without a label ({self.first} is the first)"]


def label_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and label. A tab separates name and label, or else a comma, or else spaces.

    After a tab or a comma the label may be empty. Empty lines are skipped. Raises `CallError` for a file that cannot be
    read, such as a pipe, and for a line of another form.
    """
    try:
        with open_text(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS), ""), 1):
                text = line.strip(" \r\n")
                if not text.strip():
                    continue
                separator = next((mark for mark in ("\t", ",") if mark in text), None)
                parts = [part.strip() for part in text.rsplit(separator, 1)]
                if len(parts) != 2 or not parts[0]:
                    raise CallError(f"{str(path)!r}, line {number}: {text[:60]!r}; expected a name and its label")
                yield number, parts[0].removeprefix("./"), parts[1]
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or f"it is not UTF-8 text; {CONVERT}"
        raise CallError(f"label file {str(path)!r} cannot be read: {cause}; expected lines of NAME LABEL") from error
