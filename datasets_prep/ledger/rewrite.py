"""Reading and rewriting the ledgers of finished data sets, one row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from datasets_prep.folders.copy_samples import require_verified_file
from datasets_prep.ledger.duplicates import DuplicateFinder, write_marked_ledger
from datasets_prep.ledger.table import DROPPED, SCHEMA
from datasets_prep.ledger.untrusted_rows import require_columns, require_rows, require_stored_rows
from walloc_cdl.latents import LEDGER_NAME, FileEntry, Manifest
from walloc_cdl.latents.parquet_groups import read_groups, read_schema

Rewrite = Callable[[dict[str, Any]], dict[str, Any]]
"""Returns the new values of a row of the ledger."""


def ledger_parts(folder: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """Yield the ledger's rows, one row group at a time; nothing for a data set without a ledger.

    Raises `DamagedError` if the ledger is damaged.
    """
    entry = manifest.files.get(LEDGER_NAME)
    if entry is None:
        return
    require_verified_file(folder, LEDGER_NAME, entry)
    path = folder / LEDGER_NAME
    require_columns(read_schema(path), path)
    for part in read_groups(path):
        require_rows(part, path)
        require_stored_rows(part, manifest, path)
        yield part


def stored_ledger_schema(folder: Path, manifest: Manifest) -> pa.Schema:
    """Return the columns of a data set's ledger: those of `SCHEMA`, then those kept from the source."""
    for part in ledger_parts(folder, manifest):
        return part.schema
    return SCHEMA


def rewrite_rows(part: pa.Table, rewrite: Rewrite) -> pa.Table:
    """Return a part of a ledger with every row rewritten; `rewrite` receives the columns of `SCHEMA`.

    Columns kept from the source are unchanged, except that they are null in rows that are dropped.
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
    """Write a ledger whose rows have changed, and mark duplicates again.

    `parts` opens the changed rows, part by part, each time it is called. Returns the ledger's entry and the counts for
    the manifest.
    """
    return write_marked_ledger(path, map(_unmarked, parts()), DuplicateFinder(parts, num_rows), [], schema)


def _unmarked(part: pa.Table) -> pa.Table:
    index = part.schema.get_field_index("duplicate_of")
    return part.set_column(index, part.schema.field(index), pa.nulls(part.num_rows, pa.string()))
