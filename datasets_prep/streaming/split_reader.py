"""One split of a stream, read once: what is done is held against its records, the rest is handed on to be encoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from datasets_prep.samples.planned_shard import shard_name
from datasets_prep.samples.stored import KeyedSample, Stored
from datasets_prep.sources.core.limits import stream_end
from datasets_prep.sources.core.stream_labels import ClassNumbers
from datasets_prep.sources.core.stream_shards import PartialShard, stored_bytes, where
from datasets_prep.sources.core.streaming_source import StreamedSample, numbered
from datasets_prep.streaming.finished_shards import FinishedShards
from datasets_prep.streaming.plan_stream import PlannedStream


@dataclass(frozen=True)
class SampleChunk:
    """The samples of one task of a worker."""

    shard: PartialShard
    start: int
    """Number in the split of the first."""
    keys: list[str] = field(default_factory=list)
    contents: list[Stored] = field(default_factory=list)


class SplitReader:
    """One pass over a split."""

    def __init__(self, planned: PlannedStream, finished: FinishedShards, size: int | None) -> None:
        """`size`: the number of samples in the split, where an earlier run has come to its end."""
        self._planned, self._finished, self._size = planned, finished, size
        self._classes = ClassNumbers(planned.stream.class_names)
        self.num_samples = 0
        """The number of samples in the split; known when `tasks` has been exhausted."""
        self.failure: Exception | None = None
        """What ended `tasks` before the end of the split: `CallError` for a stream that has changed since the shards
        that are done were made, and for labels that are no classes; `JobError` when the stream broke off; or whatever
        it raised by itself."""

    def tasks(self) -> Iterator[tuple[SampleChunk, list[Stored]]]:
        """Chunks of samples to encode, in order, none across two shards; they end at a failure."""
        try:
            yield from self._tasks()
        except Exception as error:  # what was drawn before it is being decoded, and may be whole shards
            self.failure = error

    def _tasks(self) -> Iterator[tuple[SampleChunk, list[Stored]]]:
        shard_samples, split = self._planned.shard_samples, self._finished.split
        begin = self._finished.num_leading
        if self._size is not None and begin >= self._size:
            self.num_samples = self._size
            self._require_same_first()
            return
        if not self._planned.stream.seeks:
            begin = 0
        elif begin:
            self._require_same_first()
            begin -= 1
        self.num_samples = begin
        chunk: SampleChunk | None = None
        shard = self._new_shard(0)
        end = stream_end(self._planned.limit)
        with closing(numbered(self._planned.stream, split, start=begin, end=end)) as samples:
            for index, sample in samples:
                self.num_samples = index + 1
                number, position = divmod(index, shard_samples)
                if number in self._finished:
                    self._finished.require_same(index, self._with_number(sample))
                    continue
                if position == 0:
                    shard = self._new_shard(number)
                chunk = chunk or SampleChunk(shard, index)
                self._add(chunk, sample)
                if len(chunk.keys) == self._planned.preparation.chunk_samples or position + 1 == shard_samples:
                    yield chunk, self._stored(chunk)
                    chunk = None
        self._finished.require_end(self.num_samples)
        if chunk is not None:
            yield chunk, self._stored(chunk)

    def _require_same_first(self) -> None:
        """Hold the first sample against its record, where there is one."""
        if 0 not in self._finished:
            return
        with closing(numbered(self._planned.stream, self._finished.split, end=1)) as samples:
            for index, sample in samples:
                self._finished.require_same(index, self._with_number(sample))
                return
        self._finished.require_end(0)

    def _new_shard(self, number: int) -> PartialShard:
        split = self._finished.split
        return PartialShard(self._planned.facts, shard_name(split, number), split, self._planned.shard_samples)

    def _add(self, chunk: SampleChunk, sample: StreamedSample) -> None:
        key, label, stored = self._with_number(sample)
        chunk.shard.append(key, label, stored_bytes(stored))
        chunk.keys.append(key)
        chunk.contents.append(stored)

    def _stored(self, chunk: SampleChunk) -> list[Stored]:
        """As the preparation takes them."""
        if not self._planned.preparation.view_names:
            return chunk.contents
        return [KeyedSample(key, stored) for key, stored in zip(chunk.keys, chunk.contents, strict=True)]

    def _with_number(self, sample: StreamedSample) -> tuple[str, int, Stored]:
        key, label, stored = sample
        return key, self._classes.number(label, where(self._finished.split, key)), stored
