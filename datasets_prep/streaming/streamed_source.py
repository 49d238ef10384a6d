"""A stream that has ended, as a source: its listing is read from the job's rows, its samples from the reservoir."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets_prep.ledger.shard_records import load_rows
from datasets_prep.samples.columns import Column, TextColumn
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.stored import FileSlice, KeyedSample, Stored
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.streaming.plan_stream import PlannedStream
from datasets_prep.streaming.reservoir import Reservoir


class StreamedSource(Source):
    """Lists all samples of a stream; only those in the reservoir can still be read."""

    def __init__(
        self, planned: PlannedStream, work: Path, shards: Sequence[PlannedShard], reservoir: Reservoir
    ) -> None:
        """`shards`: all shards, in order, whose rows are in the folder `work`."""
        facts, splits = planned.facts, planned.stream.split_names
        listings = {split: _listing(work, [shard for shard in shards if shard.split == split]) for split in splits}
        super().__init__(facts.name, Listing(listings, facts.class_names, label_kind=facts.label_kind))
        self.kind, self._keyed = facts.kind, bool(planned.preparation.view_names)
        self._slices: dict[str, dict[int, FileSlice]] = {split: reservoir.slices(split) for split in splits}

    def can_read(self, split: str, index: int) -> bool:
        """See `Source.can_read`."""
        return index in self._slices[split]

    def read(self, split: str, index: int) -> Stored:
        """Return the location of a sample of the reservoir; raises `LookupError` for any other sample."""
        stored = self._slices[split][index]
        return KeyedSample(self.key(split, index), stored) if self._keyed else stored


def _listing(work: Path, shards: Sequence[PlannedShard]) -> SplitListing:
    keys, labels, num_bytes = TextColumn(), Column(np.int64), Column(np.int64)
    for shard in shards:
        rows = load_rows(work, shard.name)
        for key in rows["key"].to_pylist():
            keys.append(key.encode())
        labels.extend(rows["label"].to_numpy())
        num_bytes.extend(rows["num_bytes"].to_numpy())
    return SplitListing(keys.texts(), labels.array(), num_bytes.array())
