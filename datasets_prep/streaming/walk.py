"""Going through one split of a stream: what is done is held against its records, the rest is handed to be encoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from datasets_prep.samples.planned_shard import shard_name
from datasets_prep.samples.stored import KeyedSample, Stored
from datasets_prep.sources.core.limits import stream_end
from datasets_prep.sources.core.stream_labels import ClassNumbers
from datasets_prep.sources.core.stream_shards import OpenShard, stored_bytes, where
from datasets_prep.sources.core.streaming_source import StreamedSample, numbered
from datasets_prep.streaming.done_shards import DoneShards
from datasets_prep.streaming.plan_stream import PlannedStream


@dataclass(frozen=True)
class Drawn:
    """The samples of one task of a worker."""

    shard: OpenShard
    start: int
    """Number in the split of the first."""
    keys: list[str] = field(default_factory=list)
    contents: list[Stored] = field(default_factory=list)


class Walk:
    """One pass over a split."""

    def __init__(self, planned: PlannedStream, done: DoneShards, end: int | None) -> None:
        """`end`: the number of samples in the split, where an earlier run has come to it."""
        self._planned, self._done, self._end = planned, done, end
        self._classes = ClassNumbers(planned.stream.class_names)
        self.num_samples = 0
        """In the split; known when `tasks` has been exhausted."""
        self.failure: Exception | None = None
        """What ended `tasks` before the end of the split: `CallError` for a stream that has changed since the shards
        that are done were made, and for labels that are no classes; `JobError` when the stream broke off; or whatever
        it raised by itself."""

    def tasks(self) -> Iterator[tuple[Drawn, list[Stored]]]:
        """Chunks of samples to encode, in order, none across two shards; they end at a failure."""
        try:
            yield from self._tasks()
        except Exception as error:  # what was drawn before it is being decoded, and may be whole shards
            self.failure = error

    def _tasks(self) -> Iterator[tuple[Drawn, list[Stored]]]:
        size, split = self._planned.shard_samples, self._done.split
        begin = self._done.num_leading
        if self._end is not None and begin >= self._end:
            self.num_samples = self._end
            self._require_first()
            return
        if not self._planned.stream.seeks:
            begin = 0
        elif begin:
            self._require_first()
            begin -= 1
        self.num_samples = begin
        drawn: Drawn | None = None
        shard = self._open(0)
        end = stream_end(self._planned.limit)
        with closing(numbered(self._planned.stream, split, start=begin, end=end)) as samples:
            for index, sample in samples:
                self.num_samples = index + 1
                number, position = divmod(index, size)
                if number in self._done:
                    self._done.require_same(index, self._with_number(sample))
                    continue
                if position == 0:
                    shard = self._open(number)
                drawn = drawn or Drawn(shard, index)
                self._add(drawn, sample)
                if len(drawn.keys) == self._planned.preparation.chunk_samples or position + 1 == size:
                    yield drawn, self._stored(drawn)
                    drawn = None
        self._done.require_end(self.num_samples)
        if drawn is not None:
            yield drawn, self._stored(drawn)

    def _require_first(self) -> None:
        """Hold the first sample against its record, where there is one."""
        if 0 not in self._done:
            return
        with closing(numbered(self._planned.stream, self._done.split, end=1)) as samples:
            for index, sample in samples:
                self._done.require_same(index, self._with_number(sample))
                return
        self._done.require_end(0)

    def _open(self, number: int) -> OpenShard:
        split = self._done.split
        return OpenShard(self._planned.facts, shard_name(split, number), split, self._planned.shard_samples)

    def _add(self, drawn: Drawn, sample: StreamedSample) -> None:
        key, label, stored = self._with_number(sample)
        drawn.shard.append(key, label, stored_bytes(stored))
        drawn.keys.append(key)
        drawn.contents.append(stored)

    def _stored(self, drawn: Drawn) -> list[Stored]:
        """As the preparation takes them."""
        if not self._planned.preparation.view_names:
            return drawn.contents
        return [KeyedSample(key, stored) for key, stored in zip(drawn.keys, drawn.contents, strict=True)]

    def _with_number(self, sample: StreamedSample) -> tuple[str, int, Stored]:
        key, label, stored = sample
        return key, self._classes.number(label, where(self._done.split, key)), stored
