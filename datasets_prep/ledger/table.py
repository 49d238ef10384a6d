"""The ledger: one row for every source sample, stored or quarantined, and for every stray file."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.source import CLASSES, Source, SplitListing, Stray
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.files import open_atomic
from walloc_cdl.latents import UNKNOWN_LABEL

SCHEMA = pa.schema(
    [
        pa.field("split", pa.string()),
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("duplicate_of", pa.string()),
    ]
)
"""`shard` and `row` locate a stored sample; where they are null, `reason` gives the cause.
`split` is null for files outside of all splits. `sha256` is the hash of the source sample's bytes, null where
they could not be read. `duplicate_of` is SPLIT/KEY of the first sample with the same content. `label` is a class
number; it is -1 if unknown, and for labels of other kinds, which are stored in the shards. The source's columns that
were to be kept follow."""

DUPLICATE = "duplicate"
"""The reason of a sample that was omitted because its content is stored already."""

DROPPED = "dropped"
"""The reason of a sample that was removed on request; its key is hidden."""

STRAY_ROWS = 1 << 16


def hidden_key(key: str) -> str:
    """Return the hash that replaces a dropped sample's key in the ledger: it can be recognized, but not read.

    >>> hidden_key("cat.png")[:20]
    'sha256:62e2ab938c4d2'
    """
    return f"sha256:{sha256_hex(key.encode('utf-8', 'surrogateescape'))}"


def shard_rows(
    source: Source, shard: PlannedShard, reasons: Mapping[int, str], hashes: Sequence[str | None]
) -> pa.Table:
    """Return the rows of one shard's source samples; `reasons` are by index in the split, `hashes` in order."""
    listing = source.listing.splits[shard.split]
    indices = range(shard.start, shard.stop)
    stored = [index not in reasons for index in indices]
    numbers = iter(range(len(stored)))
    columns = {
        "split": [shard.split] * len(stored),
        "key": listing.keys[shard.start : shard.stop],
        "label": _class_numbers(source, listing, shard),
        "num_bytes": listing.num_bytes[shard.start : shard.stop],
        "sha256": hashes,
        "shard": [shard.name if usable else None for usable in stored],
        "row": [next(numbers) if usable else None for usable in stored],
        "reason": [reasons.get(index) for index in indices],
        "duplicate_of": [None] * len(stored),
    }
    rows = pa.table(columns, schema=SCHEMA)
    if listing.columns is not None:
        for name, values in _kept_columns(listing.columns.slice(shard.start, shard.num_samples)):
            rows = rows.append_column(name, values)
    return rows


def ledger_schema(source: Source) -> pa.Schema:
    """Return `SCHEMA` and the columns kept from the source, called `source_NAME` if `SCHEMA` has the name already."""
    schema = SCHEMA
    for listing in source.listing.splits.values():
        if listing.columns is not None and len(schema) == len(SCHEMA):
            for name, values in _kept_columns(listing.columns):
                schema = schema.append(pa.field(name, values.type))
    return schema


def _kept_columns(columns: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for name in columns.column_names:
        yield (f"source_{name}" if name in SCHEMA.names else name), columns[name]


def _class_numbers(source: Source, listing: SplitListing, shard: PlannedShard) -> np.ndarray:
    if source.listing.label_kind == CLASSES:
        return listing.labels[shard.start : shard.stop]
    return np.full(shard.num_samples, UNKNOWN_LABEL, np.int64)


def rows_bytes(rows: pa.Table) -> bytes:
    """Return rows as a Parquet file; its bytes are deterministic for a version of pyarrow.

    Arrow's IPC format would need as much code, and interrupted jobs would start again.
    """
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


@dataclass
class LedgerSummary:
    """Counts for the manifest."""

    num_rows: int = 0
    num_stored: int = 0
    num_duplicates: int = 0
    """Samples whose content occurs in an earlier sample, stored or omitted."""
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Count some rows."""
        self.num_rows += rows.num_rows
        self.num_stored += rows.num_rows - rows["shard"].null_count
        self.num_duplicates += rows.num_rows - rows["duplicate_of"].null_count
        for entry in pc.value_counts(rows["reason"]).to_pylist():
            if entry["values"] is not None:
                self.reasons[entry["values"]] += entry["counts"]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        num_dropped = self.reasons[DROPPED]
        return {
            "num_rows": self.num_rows,
            "num_stored": self.num_stored,
            "num_quarantined": sum(self.reasons.values()) - self.reasons[DUPLICATE] - num_dropped,
            **({"num_dropped": num_dropped} if num_dropped else {}),
            "num_duplicates": self.num_duplicates,
            "reasons": dict(sorted(self.reasons.items())),
        }


def write_ledger(path: Path, parts: Iterable[pa.Table], strays: Sequence[Stray], schema: pa.Schema) -> LedgerSummary:
    """Write the ledger with a row group for each part, and stray files last; it needs the memory of one part."""
    summary = LedgerSummary()
    with open_atomic(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in parts:
            if part.schema.names != schema.names or part.schema.types != schema.types:
                raise DamagedError(
                    f"rows for {path} have the columns {', '.join(part.schema.names)[:200]}, expected "
                    f"{', '.join(schema.names)[:200]}, or other types; start over with --restart"
                )
            summary.add(part)
            writer.write_table(pa.Table.from_arrays(part.columns, schema=schema))  # which may be null is ours to say
        for start in range(0, len(strays), STRAY_ROWS):
            part = stray_rows(strays[start : start + STRAY_ROWS], schema)
            summary.add(part)
            writer.write_table(part)
    return summary


def stray_rows(strays: Sequence[Stray], schema: pa.Schema) -> pa.Table:
    """Return the rows of stray files."""
    num = len(strays)
    columns = {
        **{name: [None] * num for name in schema.names},
        "split": [stray.split for stray in strays],
        "key": [stray.key for stray in strays],
        "label": [UNKNOWN_LABEL] * num,
        "num_bytes": [stray.num_bytes for stray in strays],
        "reason": [stray.reason for stray in strays],
    }
    return pa.table(columns, schema=schema)
