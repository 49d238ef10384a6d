"""Samples of the same content: found by the hashes of all rows, in bounded memory, and marked in the ledger."""

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
"""Hashes held at once, 8 bytes each; more rows take more passes over the hashes."""


HASH_COLUMNS = ("sha256", "shard", "reason")
"""Columns of the ledger that say which contents occur more than once."""

_HEX_DIGITS = 16
"""Of a hash's 64, its first: a uint64."""


@dataclass
class Copies:
    """What is found of duplicates."""

    num_across_splits: int = 0
    """Copies that stand in another split than the first one: a test sample that was trained on."""
    num_other_label: int = 0
    """Copies with another label than the first one."""


@dataclass(frozen=True)
class _First:
    name: str
    split: str
    label: int


class DuplicateFinder:
    """Marks rows whose content has occurred in a row before.

    `parts` opens the parts of the ledger anew, in order, of which it needs no more than `HASH_COLUMNS`; only rows
    that are stored, or were left out as duplicates before, count.
    """

    def __init__(self, parts: Callable[[], Iterable[pa.Table]], num_rows: int) -> None:
        num_passes = max(1, -(-num_rows // PASS_ROWS))
        self._repeated = np.concatenate([_repeated(parts(), number, num_passes) for number in range(num_passes)])
        self._repeated.sort()
        self._firsts: dict[str, _First] = {}
        self.copies = Copies()

    @property
    def any(self) -> bool:
        """Whether there can be a duplicate at all."""
        return len(self._repeated) > 0

    def mark(self, rows: pa.Table) -> pa.Table:
        """The rows with `duplicate_of`; call it once for every part, in order."""
        if not self.any:
            return rows
        marks: list[str | None] = [None] * rows.num_rows
        for position in np.flatnonzero(_counted(rows) & np.isin(_prefixes(rows["sha256"]), self._repeated)).tolist():
            marks[position] = self._look_up(rows.slice(position, 1).to_pylist()[0])
        index = rows.schema.get_field_index("duplicate_of")
        return rows.set_column(index, rows.schema.field(index), pa.array(marks, pa.string()))

    def _look_up(self, row: dict[str, Any]) -> str | None:
        first = self._firsts.get(row["sha256"])
        if first is None:
            self._firsts[row["sha256"]] = _First(f"{row['split']}/{row['key']}", row["split"], row["label"])
            return None
        self.copies.num_across_splits += row["split"] != first.split
        self.copies.num_other_label += row["label"] != first.label
        return first.name


def _repeated(parts: Iterable[pa.Table], number: int, num_passes: int) -> np.ndarray:
    """Prefixes, uint64, that occur more than once among those that belong to this pass."""
    found = [np.empty(0, np.uint64)]
    for rows in parts:
        prefixes = _prefixes(rows["sha256"])[_counted(rows)]
        found.append(prefixes[prefixes % np.uint64(num_passes) == number])
    values, counts = np.unique(np.concatenate(found), return_counts=True)
    return values[counts > 1]


def _counted(rows: pa.Table) -> np.ndarray:
    left_out = pc.fill_null(pc.equal(rows["reason"], DUPLICATE), False)
    counted = pc.and_(pc.or_(pc.is_valid(rows["shard"]), left_out), pc.is_valid(rows["sha256"]))
    return counted.to_numpy()


def _prefixes(hashes: pa.ChunkedArray) -> np.ndarray:
    """The first 64 bits, uint64, of hashes in hexadecimal digits; 0 for null."""
    digits = pc.utf8_slice_codeunits(pc.fill_null(hashes, "0" * _HEX_DIGITS), 0, _HEX_DIGITS)
    return np.frombuffer(bytes.fromhex("".join(digits.to_pylist())), ">u8").astype(np.uint64)


def write_marked_ledger(
    path: Path, parts: Iterable[pa.Table], finder: DuplicateFinder, strays: Sequence[Stray], schema: pa.Schema
) -> tuple[FileEntry, dict[str, Any]]:
    """Write the ledger of a data set with its duplicates marked; returns its entry, and the counts for the manifest."""
    summary = write_ledger(path, map(finder.mark, parts), strays, schema)
    copies = {
        "num_duplicates_across_splits": finder.copies.num_across_splits,
        "num_duplicates_of_other_label": finder.copies.num_other_label,
    }
    return FileEntry(path.stat().st_size, sha256_file(path)), {**summary.to_json(), **copies}
