"""Records of finished shards, which an interrupted job need not encode again.

A shard has two files in the work folder: its rows of the ledger and its record. The record is written last; with it,
the shard is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from datasets_prep.ledger.table import rows_bytes
from datasets_prep.ledger.untrusted_rows import require_columns, require_rows
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.errors import DamagedError, JobError
from walloc_cdl.fields import REMEDY
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import ShardEntry
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest
from walloc_cdl.latents.manifest_file import parse_histogram
from walloc_cdl.latents.parquet_groups import read_groups, read_schema
from walloc_cdl.schema import Count, Sha256, from_json


@dataclass(frozen=True, eq=False)
class ShardRecord:
    """Everything that the manifest needs to know about a finished shard."""

    entry: ShardEntry
    histogram: np.ndarray
    """int64 (K, 256)."""
    class_counts: list[int] | None
    """Number of stored samples of each class; None without classes."""
    num_quarantined: int
    source_bytes: int
    """Size of the source samples, including the quarantined ones."""


def save_record(work: Path, digest: str, record: ShardRecord, rows: pa.Table) -> None:
    """Write a shard's rows of the ledger, then its record, once the shard itself is written.

    `digest` is the plan's.
    """
    data = rows_bytes(rows)
    write_atomic(_rows_path(work, record.entry.name), data)
    fields = {
        **asdict(record),
        "plan": digest,
        "histogram": record.histogram.tolist(),
        "rows_sha256": sha256_hex(data),
    }
    write_atomic(_path(work, record.entry.name), encode_json_with_digest(fields))


def load_record(folder: Path, work: Path, shard: PlannedShard, digest: str) -> ShardRecord | None:
    """Load the record of a shard that is finished under the plan of this digest; None if it must be made (again)."""
    path = _path(work, shard.name)
    try:
        stored = from_json(_StoredRecord, read_json_with_digest(path), str(path))
        entry, histogram = stored.entry, parse_histogram(stored.histogram, f"{path}, histogram")
        matches_plan = stored.plan == digest and entry.name == shard.name and entry.split == shard.split
        is_complete = (
            _size(folder / shard.name) == entry.num_bytes
            and sha256_file(_rows_path(work, shard.name)) == stored.rows_sha256
        )
    except (FileNotFoundError, DamagedError):
        return None  # the shard is made again, to the same bytes
    if not matches_plan or not is_complete:
        return None
    return ShardRecord(entry, histogram, stored.class_counts, stored.num_quarantined, stored.source_bytes)


@dataclass(frozen=True)
class _StoredRecord:
    """The fields of a record's file."""

    entry: ShardEntry
    histogram: list[list[int]]
    class_counts: list[Count] | None
    num_quarantined: Count
    source_bytes: Count
    plan: Sha256
    rows_sha256: Sha256


def require_record(folder: Path, work: Path, shard: PlannedShard, digest: str) -> ShardRecord:
    """Load the record of a shard that must be finished; raises `JobError` if it is not."""
    record = load_record(folder, work, shard, digest)
    if record is None:
        raise JobError(
            f"shard {shard.name} or its record has disappeared since it was written; run the same command again"
        )
    return record


def has_record(work: Path, shard: PlannedShard) -> bool:
    """Return whether the shard has a record, valid or not."""
    return _path(work, shard.name).is_file()


def load_rows(work: Path, name: str, columns: Sequence[str] | None = None, *, num_rows: int | None = None) -> pa.Table:
    """Load the ledger's rows of a finished shard, with all columns or the given ones.

    Raises `DamagedError` for a file that does not hold rows of a ledger, or not `num_rows` of them.
    """
    path = _rows_path(work, name)
    schema = read_schema(path)
    require_columns(schema, path)
    parts = list(read_groups(path, columns))
    rows = parts[0] if len(parts) == 1 else pa.concat_tables(parts or [schema.empty_table()])
    require_rows(rows, path)
    if num_rows is not None and rows.num_rows != num_rows:
        raise DamagedError(f"{path}: {rows.num_rows} rows, expected {num_rows}; {REMEDY}")
    return rows


def require_fitting(record: ShardRecord, num_channels: int, num_classes: int | None) -> None:
    """Raise `DamagedError` unless the record's counts are of this many channels and classes."""
    channels = len(record.histogram)
    counts = record.class_counts
    if channels != num_channels or (counts is not None and num_classes is not None and len(counts) != num_classes):
        raise DamagedError(
            f"the record of shard {record.entry.name} counts {channels} channels and {len(counts or [])} classes, "
            f"expected {num_channels} and {num_classes}; start over with --restart"
        )


def _path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.json"


def _rows_path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.parquet"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
