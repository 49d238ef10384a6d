"""Ledgers of finished data sets, read and written anew a row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_prep.folders.copy_samples import require_verified_file
from datasets_prep.ledger.duplicates import DuplicateFinder, write_marked_ledger
from datasets_prep.ledger.table import DROPPED, SCHEMA
from walloc_cdl.errors import DamagedError
from walloc_cdl.latents import LEDGER_NAME, FileEntry, Manifest

Rewrite = Callable[[dict[str, Any]], dict[str, Any]]
"""A row of the ledger to what it becomes."""


def ledger_parts(folder: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """The ledger's rows, a row group at a time; none for a data set without one. `DamagedError` if it is damaged."""
    entry = manifest.files.get(LEDGER_NAME)
    if entry is None:
        return
    require_verified_file(folder, LEDGER_NAME, entry)
    try:
        with pq.ParquetFile(folder / LEDGER_NAME) as ledger:
            for number in range(ledger.num_row_groups):
                yield ledger.read_row_group(number)
    except pa.ArrowInvalid as error:
        raise DamagedError(f"{folder / LEDGER_NAME}: no Parquet ({error}); prepare the data set again") from error


def stored_ledger_schema(folder: Path, manifest: Manifest) -> pa.Schema:
    """Columns of the ledger: those of every ledger, then those kept of the source."""
    for part in ledger_parts(folder, manifest):
        return part.schema
    return SCHEMA


def rewritten(part: pa.Table, rewrite: Rewrite) -> pa.Table:
    """A part with every row rewritten; `rewrite` sees the columns of every ledger.

    Columns kept of the source stay as they are, but are null in rows that are dropped.
    """
    rows = [rewrite(row) for row in part.select(SCHEMA.names).to_pylist()]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    origins = pa.array([None if row["reason"] == DROPPED else number for number, row in enumerate(rows)], pa.int64())
    for name in part.schema.names[len(SCHEMA) :]:
        table = table.append_column(part.schema.field(name), part[name].take(origins))
    return table


def write_edited_ledger(
    path: Path, parts: Callable[[], Iterable[pa.Table]], num_rows: int, schema: pa.Schema
) -> tuple[FileEntry, dict[str, Any]]:
    """Write a ledger whose rows have changed; duplicates are marked anew. Returns its entry, and the counts for the
    manifest.

    `parts` opens the changed rows anew, and gives them a part at a time.
    """
    return write_marked_ledger(path, map(_unmarked, parts()), DuplicateFinder(parts, num_rows), [], schema)


def _unmarked(part: pa.Table) -> pa.Table:
    index = part.schema.get_field_index("duplicate_of")
    return part.set_column(index, part.schema.field(index), pa.nulls(part.num_rows, pa.string()))
