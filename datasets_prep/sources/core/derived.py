"""The base class of sources that select, regroup or relabel the samples of another source."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.source import Listing, Source


class DerivedSource(Source):
    """Samples of another source with a listing of its own; by default the same rows in the same splits."""

    def __init__(self, source: Source, listing: Listing) -> None:
        super().__init__(source.name, listing)
        self.kind = source.kind
        self._source = source

    @property
    def root(self) -> Source:
        """See `Source.root`."""
        return self._source.root

    @property
    def channels(self) -> int | None:
        """The channel count of the whole source, since a few of its samples may differ from it."""
        return self._source.channels

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return self._source.origin

    def read(self, split: str, index: int) -> Stored:
        """See `Source.read`."""
        return self._source.read(split, index)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return self._source.references(split, rows)
