"""Names of stored samples by the ledger, for when a shard's own copy of them is damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LEDGER_NAME = "ledger.parquet"


def ledger_keys(path: Path, shard: str, rows: Iterable[int]) -> dict[int, str]:
    """The keys of the samples in `rows` of a shard, as far as the ledger at `path` has them.

    Read a row group at a time. The file must be known to be whole: give only one whose hash was checked.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[int, str] = {}
    wanted = pa.array(sorted(rows), pa.int64())
    with pq.ParquetFile(path) as ledger:
        if not {"key", "shard", "row"} <= set(ledger.schema_arrow.names):
            return found
        for number in range(ledger.num_row_groups):
            group = ledger.read_row_group(number, columns=["key", "shard", "row"])
            mask = pc.and_(pc.equal(group["shard"], shard), pc.is_in(group["row"], value_set=wanted))
            part = group.filter(mask)
            found |= dict(zip(part["row"].to_pylist(), part["key"].to_pylist(), strict=True))
    return found
