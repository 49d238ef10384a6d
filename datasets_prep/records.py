"""Records of finished shards: what an interrupted job need not do again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datasets_prep.plan import Plan, PlannedShard
from walloc_cdl.errors import DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import ShardEntry
from walloc_cdl.latents.sealed import seal, unseal


@dataclass(frozen=True, eq=False)
class ShardRecord:
    """All that the manifest and the ledger need to know of one written shard."""

    entry: ShardEntry
    quarantined: dict[int, str]
    """Index in the source's split, and the reason."""
    histogram: np.ndarray
    """int64 (K, 256)."""


def save_record(work: Path, plan: Plan, record: ShardRecord) -> None:
    """Write the record; only when its shard is in place."""
    fields = {
        "plan": plan.digest(),
        "entry": asdict(record.entry),
        "quarantined": sorted(record.quarantined.items()),
        "histogram": record.histogram.tolist(),
    }
    write_atomic(_path(work, record.entry.name), seal(fields))


def load_records(folder: Path, work: Path, plan: Plan) -> dict[str, ShardRecord]:
    """Records of this plan whose shard has the recorded size, by the shard's name; the others are made again."""
    digest = plan.digest()
    found = {}
    for shard in plan.shards:
        record = _load(work, shard, digest)
        if record is not None and _size(folder / shard.name) == record.entry.num_bytes:
            found[shard.name] = record
    return found


def _load(work: Path, shard: PlannedShard, digest: str) -> ShardRecord | None:
    path = _path(work, shard.name)
    try:
        fields = unseal(path.read_bytes(), origin=str(path))
        entry, histogram = ShardEntry(**fields["entry"]), np.array(fields["histogram"], np.int64)
        record = ShardRecord(entry, dict(fields["quarantined"]), histogram)
        belongs = fields["plan"] == digest and entry.name == shard.name and entry.split == shard.split
    except (FileNotFoundError, DamagedError, KeyError, TypeError, ValueError):
        return None  # the shard is made again, to the same bytes
    return record if belongs else None


def _path(work: Path, shard: str) -> Path:
    return work / f"{Path(shard).stem}.json"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
