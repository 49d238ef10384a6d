"""A source whose samples come with their keys, for preparations that draw something for each."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_prep.signals.base import KeyedSample, Stored
from datasets_prep.sources.base import Source
from datasets_prep.sources.origin import Origin


class KeyedSource(Source):
    """The samples of another source, each with its key."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.name, source.listing)
        self._source = source
        self.kind = source.kind

    @property
    def root(self) -> Source:
        """See `Source.root`."""
        return self._source.root

    @property
    def channels(self) -> int | None:
        """See `Source.channels`."""
        return self._source.channels

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return self._source.origin

    def fingerprint(self) -> str:
        """The other source's: the samples are the same."""
        return self._source.fingerprint()

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        files = self._source.references(split, rows)
        return [KeyedSample(self.key(split, row), file) for row, file in zip(rows, files, strict=True)]

    def read(self, split: str, index: int) -> KeyedSample:
        """The sample with its key."""
        return KeyedSample(self.key(split, index), self._source.read(split, index))
