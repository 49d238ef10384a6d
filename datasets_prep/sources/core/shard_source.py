"""The samples of one shard as a source, small enough to be sent to another machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasets_prep.samples.origin import Origin
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.source import Listing, Source, SplitListing


@dataclass(frozen=True)
class SourceFacts:
    """Properties that all samples of a source share, so that they are sent only once."""

    name: str
    kind: str
    class_names: list[str] | None
    label_kind: str | None
    origin: Origin


@dataclass(frozen=True)
class ShardRows:
    """The part of a source that belongs to one shard."""

    shard: PlannedShard
    """The shard as planned: `start` and `stop` are indices into the whole split."""
    listing: SplitListing
    """The listing of these samples only."""
    part: Sequence[Stored]


def source_facts(source: Source) -> SourceFacts:
    """Return the properties of `source` that a `ShardSource` needs."""
    return SourceFacts(source.name, source.kind, source.listing.class_names, source.listing.label_kind, source.origin)


def rows_of(source: Source, shard: PlannedShard) -> ShardRows:
    """Copy the rows of `shard` out of the listing of `source`."""
    listing, rows = source.listing.splits[shard.split], slice(shard.start, shard.stop)
    columns = listing.columns
    if columns is not None:  # a pickled slice may carry the buffers of the whole table; `take` copies the rows
        columns = columns.take(np.arange(shard.start, shard.stop))
    own = SplitListing(
        keys=list(listing.keys[rows]),
        labels=np.array(listing.labels[rows]),
        num_bytes=np.array(listing.num_bytes[rows]),
        columns=columns,
        presence=None if listing.presence is None else np.array(listing.presence[rows]),
    )
    return ShardRows(shard, own, source.part(shard.split, shard.start, shard.stop))


class ShardSource(Source):
    """A source that holds the samples of one shard, numbered from 0.

    Its splits, stray files and fingerprint differ from those of the whole source.
    """

    def __init__(self, facts: SourceFacts, rows: ShardRows) -> None:
        listing = Listing({rows.shard.split: rows.listing}, facts.class_names, label_kind=facts.label_kind)
        super().__init__(facts.name, listing)
        self.kind = facts.kind
        self._part, self._origin = rows.part, facts.origin
        self.shard = replace(rows.shard, start=0, stop=rows.shard.num_samples)
        """The shard with `start` and `stop` as indices into this source."""

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return self._origin

    def read(self, split: str, index: int) -> Stored:
        """See `Source.read`."""
        return self._part[index]
