"""Reads a split of a stream once: compares samples of finished shards with their records, and yields the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from datasets_prep.samples.planned_shard import shard_name
from datasets_prep.samples.stored import KeyedSample, Stored
from datasets_prep.sources.core.limits import stream_end
from datasets_prep.sources.core.stream_labels import ClassNumbers
from datasets_prep.sources.core.stream_shards import PartialShard, where
from datasets_prep.sources.core.streaming_source import StreamedSample, numbered
from datasets_prep.streaming.finished_shards import FinishedShards
from datasets_prep.streaming.plan_stream import PlannedStream


@dataclass(frozen=True)
class SampleChunk:
    """The samples of one task of a worker."""

    shard: PartialShard
    start: int
    """Index of the first sample in the split."""
    keys: list[str] = field(default_factory=list)
    contents: list[Stored] = field(default_factory=list)


class SplitReader:
    """One pass over a split."""

    def __init__(self, planned: PlannedStream, finished: FinishedShards, size: int | None) -> None:
        """`size`: the number of samples in the split, if an earlier run reached its end."""
        self._planned, self._finished, self._size = planned, finished, size
        self._classes = ClassNumbers(planned.stream.class_names)
        self.num_samples = 0
        """Number of samples in the split, known when `tasks` is exhausted."""
        self.failure: Exception | None = None
        """The exception that ended `tasks` before the end of the split: `CallError` if the stream has changed since the
        finished shards were made, or if a label is not a class; `JobError` if the stream was interrupted; or any other
        exception of the stream."""

    def tasks(self) -> Iterator[tuple[SampleChunk, list[Stored]]]:
        """Yield chunks of samples to encode, in order, until the end or a failure; no chunk spans two shards."""
        try:
            yield from self._tasks()
        except Exception as error:  # samples that were drawn before are being decoded, and may complete shards
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
        """Compare the first sample with its record, if there is one."""
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
        chunk.shard.append(key, label, stored)
        chunk.keys.append(key)
        chunk.contents.append(stored)

    def _stored(self, chunk: SampleChunk) -> list[Stored]:
        """Return the chunk's samples in the form that the preparation needs."""
        if not self._planned.preparation.view_names:
            return chunk.contents
        return [KeyedSample(key, stored) for key, stored in zip(chunk.keys, chunk.contents, strict=True)]

    def _with_number(self, sample: StreamedSample) -> tuple[str, int, Stored]:
        key, label, stored = sample
        return key, self._classes.number(label, where(self._finished.split, key)), stored
