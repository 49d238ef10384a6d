"""Sources made of samples of a stream: its first samples, and the samples of a shard while they arrive."""

from __future__ import annotations

import os
from contextlib import closing, suppress

import numpy as np

from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.stored import FileSlice, Stored
from datasets_prep.sources.core.shard_source import SourceFacts
from datasets_prep.sources.core.source import MODE_SAMPLES, Listing, Presence, Source, SplitListing
from datasets_prep.sources.core.stream_labels import ClassNumbers
from datasets_prep.sources.core.streaming_source import StreamingSource, numbered
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL


class StreamHead(Source):
    """The first samples of a stream, which show what it holds; all splits except theirs are empty."""

    def __init__(self, stream: StreamingSource, count: int = MODE_SAMPLES) -> None:
        """Raises `CallError` for a stream without samples, and for labels without class names."""
        classes, samples = ClassNumbers(stream.class_names), []
        for filled in stream.split_names:
            with closing(numbered(stream, filled, end=count)) as head:
                samples = [sample for _, sample in head]
            if samples:
                break
        else:
            raise CallError(f"stream {stream.name} has no samples; give one with images")
        labels = [classes.number(label, where(filled, key)) for key, label, _ in samples]
        self._samples = [stored for _, _, stored in samples]
        listings = {split: _listing([], [], []) for split in stream.split_names}
        listings[filled] = _listing([key for key, _, _ in samples], labels, list(map(stored_bytes, self._samples)))
        super().__init__(stream.name, Listing(listings, stream.class_names))
        self.kind = stream.kind

    def read(self, split: str, index: int) -> Stored:
        """See `Source.read`."""
        return self._samples[index]


class PartialShard(Source):
    """The samples of one shard that have arrived so far, without their content, numbered from 0."""

    def __init__(self, facts: SourceFacts, name: str, split: str, capacity: int) -> None:
        self.shard = PlannedShard(name, split, 0, capacity)
        """The shard as planned, at its full size; the stream may end before."""
        self._keys: list[str] = []
        self._labels = np.full(capacity, UNKNOWN_LABEL, np.int64)
        self._num_bytes = np.zeros(capacity, np.int64)
        self._origin = facts.origin
        self._presence = np.zeros(capacity, np.uint8)
        listing = SplitListing(self._keys, self._labels, self._num_bytes, presence=self._presence)
        super().__init__(facts.name, Listing({split: listing}, facts.class_names, label_kind=facts.label_kind))
        self.kind = facts.kind

    def append(self, key: str, label: int, stored: Stored) -> None:
        """Append the next sample."""
        number = len(self._keys)
        self._keys.append(key)
        self._labels[number], self._num_bytes[number] = label, stored_bytes(stored)
        # a stream has what it yields, except for what it has not looked at, such as a file at a URL
        unknown = isinstance(stored, FileSlice) and stored.num_bytes is None
        self._presence[number] = Presence.UNKNOWN if unknown else Presence.FOUND

    @property
    def is_full(self) -> bool:
        """Whether all of its samples have arrived."""
        return len(self._keys) == self.shard.num_samples

    def read(self, split: str, index: int) -> Stored:
        """Raise `LookupError`: a stream passes samples on when they arrive, they cannot be read later."""
        raise LookupError(f"sample {index} of {self.shard.name} was streamed and cannot be read again")


def where(split: str, key: str) -> str:
    """Return the description of a sample for messages."""
    return f"sample {key} of split {split!r}"


def stored_bytes(stored: Stored) -> int:
    """Return the size of a sample in bytes, as listings store it; 0 if it is unknown."""
    if isinstance(stored, bytes):
        return len(stored)
    if isinstance(stored, FileSlice):
        return stored.num_bytes or 0
    if not isinstance(stored, (str, os.PathLike)):
        return 0
    with suppress(OSError, ValueError):
        return os.stat(stored).st_size
    return 0


def _listing(keys: list[str], labels: list[int], num_bytes: list[int]) -> SplitListing:
    return SplitListing(keys, np.array(labels, np.int64), np.array(num_bytes, np.int64))
