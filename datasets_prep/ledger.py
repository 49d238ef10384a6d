"""The ledger: one row for every source sample, stored or quarantined, and for every stray."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_prep.plan import Plan
from datasets_prep.records import ShardRecord
from datasets_prep.sources.base import UNKNOWN_LABEL, Source

SCHEMA = pa.schema(
    [
        pa.field("split", pa.string()),
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
    ]
)
"""`shard` and `row` say where a sample is stored; where they are null, `reason` says why not.
`split` is null for what lies outside of every split."""


def build_ledger(source: Source, plan: Plan, records: Sequence[ShardRecord]) -> pa.Table:
    """Rows in the order of the plan, strays last; `records` are those of the plan's shards, in order."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for shard, record in zip(plan.shards, records, strict=True):
        row = 0
        for index in range(shard.start, shard.stop):
            reason = record.quarantined.get(index)
            columns["split"].append(shard.split)
            columns["key"].append(source.key(shard.split, index))
            columns["label"].append(source.label(shard.split, index))
            columns["num_bytes"].append(source.num_bytes(shard.split, index))
            columns["shard"].append(shard.name if reason is None else None)
            columns["row"].append(row if reason is None else None)
            columns["reason"].append(reason)
            row += reason is None
    for stray in source.strays:
        values = (stray.split, stray.key, UNKNOWN_LABEL, stray.num_bytes, None, None, stray.reason)
        for name, value in zip(SCHEMA.names, values, strict=True):
            columns[name].append(value)
    return pa.table(columns, schema=SCHEMA)


def ledger_bytes(ledger: pa.Table) -> bytes:
    """The parquet file; the same bytes for the same version of pyarrow."""
    sink = io.BytesIO()
    pq.write_table(ledger, sink, compression="zstd")
    return sink.getvalue()


def summarize(ledger: pa.Table) -> dict[str, Any]:
    """Counts for the manifest: of rows, stored samples, and quarantined ones by reason."""
    reasons = Counter(reason for reason in ledger["reason"].to_pylist() if reason is not None)
    return {
        "num_rows": ledger.num_rows,
        "num_stored": ledger.num_rows - sum(reasons.values()),
        "num_quarantined": sum(reasons.values()),
        "reasons": dict(sorted(reasons.items())),
    }
