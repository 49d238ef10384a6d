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
import pyarrow.parquet as pq

from datasets_prep.ledger.table import rows_bytes
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.errors import DamagedError, JobError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import ShardEntry
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest


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
        fields = read_json_with_digest(path)
        plan, rows = fields.pop("plan"), fields.pop("rows_sha256")
        entry, histogram = ShardEntry(**fields.pop("entry")), np.array(fields.pop("histogram"), np.int64)
        record = ShardRecord(entry, histogram, **fields)
        matches_plan = plan == digest and entry.name == shard.name and entry.split == shard.split
        is_complete = (
            _size(folder / shard.name) == entry.num_bytes and sha256_file(_rows_path(work, shard.name)) == rows
        )
    except (FileNotFoundError, DamagedError, KeyError, TypeError, ValueError):
        return None  # the shard is made again, to the same bytes
    return record if matches_plan and is_complete else None


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


def load_rows(work: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Load the ledger's rows of a finished shard, with all columns or the given ones.

    pyarrow reads on this thread only, since each of its own threads would keep some megabytes.
    """
    with pq.ParquetFile(_rows_path(work, name), pre_buffer=False) as file:
        return file.read(columns, use_threads=False)


def _path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.json"


def _rows_path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.parquet"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
