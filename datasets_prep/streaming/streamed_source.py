"""A stream that has come to its end, as a source: its listing from the job's rows, and the few samples kept of it."""

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
    """All samples of a stream, by name; of most of them nothing can be read any more."""

    def __init__(
        self, planned: PlannedStream, work: Path, shards: Sequence[PlannedShard], reservoir: Reservoir
    ) -> None:
        """`shards`: all there are, in order, their rows in the folder `work`."""
        facts, splits = planned.facts, planned.stream.split_names
        listings = {split: _listing(work, [shard for shard in shards if shard.split == split]) for split in splits}
        super().__init__(facts.name, Listing(listings, facts.class_names, label_kind=facts.label_kind))
        self.kind, self._keyed = facts.kind, bool(planned.preparation.view_names)
        self._kept: dict[str, dict[int, FileSlice]] = {split: reservoir.places(split) for split in splits}

    def can_read(self, split: str, index: int) -> bool:
        """See `Source.can_read`."""
        return index in self._kept[split]

    def read(self, split: str, index: int) -> Stored:
        """Where a kept sample lies; `LookupError` for any other."""
        place = self._kept[split][index]
        return KeyedSample(self.key(split, index), place) if self._keyed else place


def _listing(work: Path, shards: Sequence[PlannedShard]) -> SplitListing:
    keys, labels, num_bytes = TextColumn(), Column(np.int64), Column(np.int64)
    for shard in shards:
        rows = load_rows(work, shard.name)
        for key in rows["key"].to_pylist():
            keys.append(key.encode())
        labels.extend(rows["label"].to_numpy())
        num_bytes.extend(rows["num_bytes"].to_numpy())
    return SplitListing(keys.texts(), labels.array(), num_bytes.array())
