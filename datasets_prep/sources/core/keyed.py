"""A source whose samples carry their keys, for preparations that draw random values from a sample's key."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.stored import KeyedSample, Stored
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.source import Source


class KeyedSource(DerivedSource):
    """The samples of another source, each as a `KeyedSample`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, source.listing)

    def fingerprint(self) -> str:
        """Return the other source's fingerprint, since the samples are the same."""
        return self._source.fingerprint()

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return _KeyedReferences([self.key(split, row) for row in rows], self._source.references(split, rows))

    def read(self, split: str, index: int) -> KeyedSample:
        """Return the sample with its key."""
        return KeyedSample(self.key(split, index), self._source.read(split, index))


class _KeyedReferences(LazySequence[Stored]):
    """Selected samples, each with its key. A reference is resolved when its item is accessed."""

    def __init__(self, keys: list[str], samples: Sequence[Stored]) -> None:
        self._keys, self._samples = keys, samples

    def __len__(self) -> int:
        return len(self._keys)

    def item(self, position: int) -> Stored:
        return KeyedSample(self._keys[position], self._samples[position])
