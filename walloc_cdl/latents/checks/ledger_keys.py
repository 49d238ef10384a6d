"""Keys of stored samples, looked up in the ledger because the shard's own copy of them may be damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def ledger_keys(path: Path, shard: str, rows: Iterable[int]) -> dict[int, str]:
    """Return the keys, by row, of those samples in `rows` of a shard that the ledger at `path` lists.

    The file's hash must have been checked. The result is empty if the file is not a ledger nevertheless.
    """
    import pyarrow as pa

    try:
        return _keys(path, shard, rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError):  # pyarrow raises OSError for invalid pages
        return {}


def _keys(path: Path, shard: str, rows: Iterable[int]) -> dict[int, str]:
    """Look the keys up in one row group at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[int, str] = {}
    wanted = pa.array(sorted(rows), pa.int64())
    columns = {"key": pa.string(), "shard": pa.string(), "row": pa.int64()}
    with pq.ParquetFile(path) as ledger:
        fields = [field for field in ledger.schema_arrow if field.name in columns]
        if sorted(field.name for field in fields) != sorted(columns) or any(
            field.type != columns[field.name] for field in fields
        ):
            return found
        for number in range(ledger.num_row_groups):
            group = ledger.read_row_group(number, columns=list(columns))
            mask = pc.and_(pc.equal(group["shard"], shard), pc.is_in(group["row"], value_set=wanted))
            part = group.filter(mask)
            found |= dict(zip(part["row"].to_pylist(), part["key"].to_pylist(), strict=True))
    return found
