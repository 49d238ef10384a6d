"""Samples of equal content: they are found by the hashes of all rows, in bounded memory, and marked in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_prep.ledger.table import DUPLICATE, write_ledger
from datasets_prep.sources.core.source import Stray
from walloc_cdl.canonical import sha256_file
from walloc_cdl.latents import FileEntry

PASS_ROWS = 1 << 24
"""Hashes in memory at a time, 8 bytes each; more rows take more passes over the hashes."""


HASH_COLUMNS = ("sha256", "shard", "reason")
"""Columns of the ledger that determine which contents occur more than once."""

_HEX_DIGITS = 16
"""The first digits of a hash's 64, which make a uint64."""


@dataclass
class DuplicateCounts:
    """Counts of duplicates that matter for training."""

    num_across_splits: int = 0
    """Duplicates in another split than the first occurrence, such as test samples that were trained on."""
    num_other_label: int = 0
    """Duplicates with another label than the first occurrence."""


@dataclass(frozen=True)
class _FirstOccurrence:
    name: str
    split: str
    label: int


class DuplicateFinder:
    """Marks rows whose content has occurred in an earlier row.

    `parts` opens the parts of the ledger, in order, each time it is called; the columns `HASH_COLUMNS` are enough. Only
    rows that are stored, or were omitted as duplicates before, are considered.
    """

    def __init__(self, parts: Callable[[], Iterable[pa.Table]], num_rows: int) -> None:
        num_passes = max(1, -(-num_rows // PASS_ROWS))
        self._repeated = np.concatenate(
            [_repeated_prefixes(parts(), number, num_passes) for number in range(num_passes)]
        )
        self._repeated.sort()
        self._first_occurrences: dict[str, _FirstOccurrence] = {}
        self.counts = DuplicateCounts()

    @property
    def has_candidates(self) -> bool:
        """Whether there can be any duplicate."""
        return len(self._repeated) > 0

    def mark(self, rows: pa.Table) -> pa.Table:
        """Return the rows with `duplicate_of` filled in; call it once for every part, in order."""
        if not self.has_candidates:
            return rows
        marks: list[str | None] = [None] * rows.num_rows
        is_candidate = _is_considered(rows) & np.isin(_prefixes(rows["sha256"]), self._repeated)
        for position in np.flatnonzero(is_candidate).tolist():
            marks[position] = self._look_up(rows.slice(position, 1).to_pylist()[0])
        index = rows.schema.get_field_index("duplicate_of")
        return rows.set_column(index, rows.schema.field(index), pa.array(marks, pa.string()))

    def _look_up(self, row: dict[str, Any]) -> str | None:
        """Return SPLIT/KEY of the first sample with the row's content; None, and remember it, if this is the first."""
        first = self._first_occurrences.get(row["sha256"])
        if first is None:
            name = f"{row['split']}/{row['key']}"
            self._first_occurrences[row["sha256"]] = _FirstOccurrence(name, row["split"], row["label"])
            return None
        self.counts.num_across_splits += row["split"] != first.split
        self.counts.num_other_label += row["label"] != first.label
        return first.name


def _repeated_prefixes(parts: Iterable[pa.Table], number: int, num_passes: int) -> np.ndarray:
    """Return the prefixes, uint64, that occur more than once among those of pass `number`."""
    found = [np.empty(0, np.uint64)]
    for rows in parts:
        prefixes = _prefixes(rows["sha256"])[_is_considered(rows)]
        found.append(prefixes[prefixes % np.uint64(num_passes) == number])
    values, counts = np.unique(np.concatenate(found), return_counts=True)
    return values[counts > 1]


def _is_considered(rows: pa.Table) -> np.ndarray:
    was_omitted = pc.fill_null(pc.equal(rows["reason"], DUPLICATE), False)
    is_considered = pc.and_(pc.or_(pc.is_valid(rows["shard"]), was_omitted), pc.is_valid(rows["sha256"]))
    return is_considered.to_numpy()


def _prefixes(hashes: pa.ChunkedArray) -> np.ndarray:
    """Return the first 64 bits, uint64, of hashes in hexadecimal digits; 0 for null."""
    digits = pc.utf8_slice_codeunits(pc.fill_null(hashes, "0" * _HEX_DIGITS), 0, _HEX_DIGITS)
    return np.frombuffer(bytes.fromhex("".join(digits.to_pylist())), ">u8").astype(np.uint64)


def write_marked_ledger(
    path: Path, parts: Iterable[pa.Table], finder: DuplicateFinder, strays: Sequence[Stray], schema: pa.Schema
) -> tuple[FileEntry, dict[str, Any]]:
    """Write the ledger of a data set with duplicates marked; returns its entry and the counts for the manifest."""
    summary = write_ledger(path, map(finder.mark, parts), strays, schema)
    counts = {
        "num_duplicates_across_splits": finder.counts.num_across_splits,
        "num_duplicates_of_other_label": finder.counts.num_other_label,
    }
    return FileEntry(path.stat().st_size, sha256_file(path)), {**summary.to_json(), **counts}
