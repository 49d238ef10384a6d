"""Finds samples by the names that people write: keys, with or without folders and suffix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS, Column
from datasets_prep.samples.unique_names import name_hash
from datasets_prep.sources.core.source import Source
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL


@dataclass(frozen=True)
class _Form:
    """How a key is shortened to a name."""

    folders: bool
    suffix: bool

    def of(self, key: str) -> str:
        """Return the name for a key.

        >>> [_Form(*form).of("a/b.c.png") for form in ((True, True), (False, True), (True, False), (False, False))]
        ['a/b.c.png', 'b.c.png', 'a/b.c', 'b.c']
        """
        if self.folders and self.suffix:
            return key
        folder, slash, base = key.rpartition("/")
        stem = base.rpartition(".")[0] or base
        return (folder + slash if self.folders else "") + (base if self.suffix else stem)


FORMS = (_Form(True, True), _Form(False, True), _Form(True, False), _Form(False, False))
"""Forms of names, the most precise first."""


class SampleNames:
    """The names of a source's samples without a label. An index of 16 bytes a sample is made for each form in use."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows = [
            (split, np.flatnonzero(np.asarray(listing.labels) == UNKNOWN_LABEL))
            for split, listing in source.listing.splits.items()
        ]
        self._ends = np.cumsum([len(rows) for _, rows in self._rows])
        self._indexes: dict[_Form, tuple[np.ndarray, np.ndarray]] = {}

    def find(self, name: str, where: str) -> tuple[str, int] | None:
        """Return split and index of the sample of a name; None if there is none.

        Raises `CallError`, whose message begins with `where`, for a name that several samples have.
        """
        for form in FORMS:
            found = self._candidates(form, name)
            if len(found) > 1:
                both = " and ".join(f"{self._source.key(*each)!r} of split {each[0]}" for each in found[:2])
                raise CallError(f"{where}: {name!r} may be {both}; write the whole name")
            if found:
                return found[0]
        return None

    def example(self) -> str:
        """Return the name of the first sample."""
        return self._source.key(*self._sample(0))

    def _candidates(self, form: _Form, name: str) -> list[tuple[str, int]]:
        if form not in self._indexes:
            self._indexes[form] = self._index(form)
        hashes, order = self._indexes[form]
        wanted = np.uint64(name_hash(_encoded(name)))
        first, last = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        samples = [self._sample(int(number)) for number in order[first : min(last, first + 16)]]
        return [sample for sample in samples if form.of(self._source.key(*sample)) == name]

    def _index(self, form: _Form) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted hashes of all names, uint64, and the number of the sample of each, int64."""
        hashes = Column(np.uint64)
        for split, rows in self._rows:
            keys = self._source.listing.splits[split].keys
            for start in range(0, len(rows), CHUNK_ROWS):
                for row in rows[start : start + CHUNK_ROWS]:
                    hashes.append(name_hash(_encoded(form.of(keys[row]))))
        values = hashes.array()
        order = np.argsort(values, kind="stable")
        return values[order], order

    def _sample(self, number: int) -> tuple[str, int]:
        """Return split and index of a sample, numbered through all splits."""
        part = int(np.searchsorted(self._ends, number, side="right"))
        split, rows = self._rows[part]
        return split, int(rows[number - (self._ends[part] - len(rows))])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
