"""Keys of stored samples, looked up in the ledger because the shard's own copy of them may be damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from walloc_cdl.errors import DamagedError
from walloc_cdl.latents.parquet_groups import read_groups


def ledger_keys(path: Path, shard: str, rows: Iterable[int]) -> dict[int, str]:
    """Return the keys, by row, of those samples in `rows` of a shard that the ledger at `path` lists.

    The file's hash must have been checked. The result is empty if the file is not a ledger nevertheless.
    """
    try:
        return _keys(path, shard, rows)
    except (DamagedError, OSError):
        return {}


def _keys(path: Path, shard: str, rows: Iterable[int]) -> dict[int, str]:
    """Look the keys up in one row group at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[int, str] = {}
    wanted = pa.array(sorted(rows), pa.int64())
    columns = {"key": pa.string(), "shard": pa.string(), "row": pa.int64()}
    for group in read_groups(path, list(columns)):
        if any(group.schema.field(name).type != kind for name, kind in columns.items()):
            return found
        part = group.filter(pc.and_(pc.equal(group["shard"], shard), pc.is_in(group["row"], value_set=wanted)))
        keys = zip(part["row"].to_pylist(), part["key"].to_pylist(), strict=True)
        found |= {row: key for row, key in keys if key is not None}
    return found
