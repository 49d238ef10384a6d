"""The few samples of a stream that are wanted once more at the end, when the rest has gone by.

Those with the smallest key hashes of each split, as `datasets_prep.job.finish` would choose them of any other source.
A shard's share lies in a file of its own in the work folder, complete before the shard is done, and goes when no
sample of it is among the chosen ones any more: N samples of S shards need the room of about N (1 + ln S).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from datasets_prep.ledger.shard_records import load_rows
from datasets_prep.ledger.table import DUPLICATE
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.key_hash import key_hash
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.stored import BadSignalError, FileSlice, Stored
from walloc_cdl.errors import DamagedError, JobError
from walloc_cdl.files import open_atomic, remove_temporaries, write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

FOLDER = "kept"


@dataclass(frozen=True, order=True)
class _Chosen:
    """A sample among the chosen ones; the first of a heap is the one to give way."""

    rank: int
    """The lot as a number, negative."""
    index: int
    """In the split."""
    shard: str
    """Stem of its name."""


class Reservoir:
    """At most `count` stored samples of each split, whose content is kept."""

    def __init__(self, work: Path, count: int) -> None:
        self._work, self._folder, self._count = work, work / FOLDER, count
        self._heaps: dict[str, list[_Chosen]] = {}
        self._offsets: dict[str, dict[str, list[int]]] = {}
        self._file: BinaryIO | None = None
        self._folder.mkdir(exist_ok=True)
        remove_temporaries(self._folder)

    def restore(self, shard: PlannedShard) -> None:
        """Take note of the samples of a shard that is done; `start` counts in the whole split."""
        stem = Path(shard.name).stem
        rows = load_rows(self._work, shard.name).select(["key", "shard", "reason"])
        for index, key in _were_stored(rows, shard.start):
            self._choose(shard.split, key, index, stem)

    @contextmanager
    def of_shard(self, name: str) -> Iterator[None]:
        """While the block runs, samples of this shard are offered; its end puts their file into its place."""
        stem = Path(name).stem
        self._offsets[stem] = {}
        with open_atomic(self._folder / f"{stem}.bin") as self._file:
            yield
        self._file = None
        chosen = {str(each.index) for heap in self._heaps.values() for each in heap if each.shard == stem}
        places = {index: place for index, place in self._offsets[stem].items() if index in chosen}
        write_atomic(self._folder / f"{stem}.json", encode_json_with_digest(places))
        self._offsets[stem] = places

    def offer(self, split: str, key: str, index: int, name: str, stored: Stored) -> None:
        """A sample of the shard, which can be used, with its content."""
        stem = Path(name).stem
        if not self._choose(split, key, index, stem) or self._file is None:
            return
        try:
            data = read_stored(stored)
        except BadSignalError as error:
            raise JobError(f"sample {key} of split {split!r} has gone since it was encoded: {error}") from error
        self._offsets[stem][str(index)] = [self._file.tell(), len(data)]
        self._file.write(data)

    def tidy(self) -> None:
        """Remove the files of shards none of whose samples is chosen; call it when a shard is done."""
        needed = {each.shard for heap in self._heaps.values() for each in heap}
        for name in os.listdir(self._folder):
            if not name.startswith(".") and Path(name).stem not in needed:
                (self._folder / name).unlink(missing_ok=True)

    def places(self, split: str) -> dict[int, FileSlice]:
        """Where the content of the chosen samples of a split lies, by their number in it.

        Raises `JobError` when a file has gone.
        """
        return {each.index: self._place(each) for each in self._heaps.get(split, ())}

    def _place(self, chosen: _Chosen) -> FileSlice:
        path = self._folder / f"{chosen.shard}.json"
        try:
            if chosen.shard not in self._offsets:
                self._offsets[chosen.shard] = parse_json_with_digest(path.read_bytes(), origin=str(path))
            offset, num_bytes = self._offsets[chosen.shard][str(chosen.index)]
        except (OSError, DamagedError, KeyError) as error:
            raise JobError(f"{path} has gone or is damaged since it was written; begin anew with --restart") from error
        return FileSlice(str(path.with_suffix(".bin").absolute()), offset, num_bytes)

    def _choose(self, split: str, key: str, index: int, stem: str) -> bool:
        """Whether the sample is among the chosen ones now."""
        heap = self._heaps.setdefault(split, [])
        chosen = _Chosen(-int(key_hash(key), 16), index, stem)
        if len(heap) < self._count:
            heapq.heappush(heap, chosen)
            return True
        return heapq.heappushpop(heap, chosen) is not chosen


def _were_stored(rows: pa.Table, start: int) -> Iterator[tuple[int, str]]:
    """Numbers and keys of the samples that were stored when the shard was made, duplicates that left it included."""
    columns = rows.to_pydict()
    for index, (key, shard, reason) in enumerate(
        zip(columns["key"], columns["shard"], columns["reason"], strict=True), start=start
    ):
        if shard is not None or reason == DUPLICATE:
            yield index, key
