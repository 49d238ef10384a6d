"""Removes from a job's shards the samples whose content an earlier sample has.

A shard is rewritten before its record. If the job is interrupted in between, the next call finds a shard that does not
match its record, and encodes it again from the source. `--finish` does so, too, although it refuses shards that no
slice has made: a record, stale or not, proves that a slice made the shard.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_prep.encode.sample_layout import sample_layout
from datasets_prep.folders.copy_samples import write_rows
from datasets_prep.job.context import JobContext
from datasets_prep.ledger.duplicates import DuplicateFinder
from datasets_prep.ledger.shard_records import load_rows, require_record, save_record
from datasets_prep.ledger.table import DUPLICATE
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.latents import open_shard


def drop_duplicate_samples(context: JobContext, finder: DuplicateFinder) -> None:
    """Rewrite every shard that has duplicates without them, with its record and its rows of the ledger.

    Of equal samples, the first in the plan's order stays. A shard without duplicates is not changed.
    """
    for shard in context.plan.shards:
        rows = finder.mark(load_rows(context.work, shard.name, num_rows=shard.num_samples))
        stored = ~rows["shard"].is_null().to_numpy()
        kept = rows["duplicate_of"].is_null().to_numpy()
        if (stored & ~kept).any():
            _rewrite(context, shard, rows, kept[stored])


def _rewrite(context: JobContext, shard: PlannedShard, rows: pa.Table, kept: np.ndarray) -> None:
    """Rewrite a shard; `kept`, bool, marks the stored samples that stay."""
    folder, layout = context.folder, sample_layout(context.source, context.codec, context.preparation)
    record = require_record(folder, context.work, shard, context.plan_digest)
    content = open_shard(folder / shard.name, record.entry, layout)
    positions = np.flatnonzero(kept)
    labels = None if content.labels is None else content.labels[positions]
    entry, histogram = write_rows(folder, record.entry, content, positions, layout)
    class_counts = layout.labels.class_counts(labels)
    counts = None if class_counts is None else class_counts.tolist()
    changed = replace(record, entry=entry, histogram=histogram, class_counts=counts)
    save_record(context.work, context.plan_digest, changed, _without_duplicates(rows))


def _without_duplicates(rows: pa.Table) -> pa.Table:
    stored = pc.and_(pc.is_valid(rows["shard"]), pc.is_null(rows["duplicate_of"]))
    removed = pc.and_(pc.is_valid(rows["shard"]), pc.is_valid(rows["duplicate_of"]))
    numbers = np.cumsum(stored.to_numpy()) - 1
    changes = {
        "shard": pc.if_else(stored, rows["shard"], pa.scalar(None, pa.string())),
        "row": pc.if_else(stored, pa.array(numbers, pa.int64()), pa.scalar(None, pa.int64())),
        "reason": pc.if_else(removed, pa.scalar(DUPLICATE), rows["reason"]),
    }
    for name, values in changes.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), values)
    return rows
