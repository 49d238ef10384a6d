"""Records of finished shards: what an interrupted job need not do again.

A shard leaves two files in the work folder: its rows of the ledger, and then the record, which makes it done.
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
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest


@dataclass(frozen=True, eq=False)
class ShardRecord:
    """All that the manifest needs to know of one written shard."""

    entry: ShardEntry
    histogram: np.ndarray
    """int64 (K, 256)."""
    class_counts: list[int] | None
    """Stored samples of each class; None without classes."""
    num_quarantined: int
    source_bytes: int
    """Of the samples read, the bad ones included."""


def save_record(work: Path, digest: str, record: ShardRecord, rows: pa.Table) -> None:
    """Write the shard's rows of the ledger, then its record; only when the shard is in place.

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
    """The record of a shard that is done under the plan of this digest, in full; None for one to make (again)."""
    path = _path(work, shard.name)
    try:
        fields = parse_json_with_digest(path.read_bytes(), origin=str(path))
        plan, rows = fields.pop("plan"), fields.pop("rows_sha256")
        entry, histogram = ShardEntry(**fields.pop("entry")), np.array(fields.pop("histogram"), np.int64)
        record = ShardRecord(entry, histogram, **fields)
        belongs = plan == digest and entry.name == shard.name and entry.split == shard.split
        whole = _size(folder / shard.name) == entry.num_bytes and sha256_file(_rows_path(work, shard.name)) == rows
    except (FileNotFoundError, DamagedError, KeyError, TypeError, ValueError):
        return None  # the shard is made again, to the same bytes
    return record if belongs and whole else None


def require_record(folder: Path, work: Path, shard: PlannedShard, digest: str) -> ShardRecord:
    """The same of a shard that must be done; `JobError` if it is not."""
    record = load_record(folder, work, shard, digest)
    if record is None:
        raise JobError(f"shard {shard.name} or its record has gone since it was made; run the same again")
    return record


def was_made(work: Path, shard: PlannedShard) -> bool:
    """Whether the shard was done once, though it may be `load_record`'s to make again."""
    return _path(work, shard.name).is_file()


def load_rows(work: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The ledger's rows of a shard that is done, of all columns or these.

    On this thread alone: each of pyarrow's own would keep some megabytes.
    """
    with pq.ParquetFile(_rows_path(work, name), pre_buffer=False) as file:
        return file.read(columns, use_threads=False)


def _path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.json"


def _rows_path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.parquet"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
