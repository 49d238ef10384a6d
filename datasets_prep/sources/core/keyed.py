"""A source whose samples come with their keys, for preparations that draw something for each."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.stored import KeyedSample, Stored
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.source import Source


class KeyedSource(DerivedSource):
    """The samples of another source, each with its key."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, source.listing)

    def fingerprint(self) -> str:
        """The other source's: the samples are the same."""
        return self._source.fingerprint()

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return _Keyed([self.key(split, row) for row in rows], self._source.references(split, rows))

    def read(self, split: str, index: int) -> KeyedSample:
        """The sample with its key."""
        return KeyedSample(self.key(split, index), self._source.read(split, index))


class _Keyed(LazySequence[Stored]):
    """Chosen samples, each with its key; references are followed when they are asked for."""

    def __init__(self, keys: list[str], samples: Sequence[Stored]) -> None:
        self._keys, self._samples = keys, samples

    def __len__(self) -> int:
        return len(self._keys)

    def item(self, position: int) -> Stored:
        return KeyedSample(self._keys[position], self._samples[position])
