"""A source whose samples come with their keys, for preparations that draw something for each."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_prep.signals.base import KeyedSample, Stored
from datasets_prep.sources.base import Source
from datasets_prep.sources.derived import DerivedSource


class KeyedSource(DerivedSource):
    """The samples of another source, each with its key."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, source.listing)

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
