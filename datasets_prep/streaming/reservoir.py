"""Stores the samples of a stream that `datasets_prep.job.finish` reads again when the stream has ended.

For each split they are the samples with the smallest key hashes, which are those that `finish` selects from any other
source, so that the synthesis is the same as with random access; a resumed job finds the selection again from the
shards' rows. The selected samples of a shard are in one file of the work folder, which is complete before the shard is
done, and removed when none of its samples is selected any more: N samples of S shards need the space of about
N (1 + ln S) samples.
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
from walloc_cdl.files import make_folder, open_atomic, remove_file, remove_temporaries, write_atomic
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest
from walloc_cdl.schema import Count, require_type

FOLDER = "kept"
Offsets = dict[str, tuple[Count, Count]]
"""Offset and size of the content of samples in a file, by the samples' index in the split."""


@dataclass(frozen=True, order=True)
class _Selected:
    """A selected sample; the first one in a heap is replaced first."""

    rank: int
    """The negative key hash as an integer."""
    index: int
    """Index in the split."""
    shard: str
    """Stem of the shard's file name."""


class Reservoir:
    """Selects at most `count` stored samples of each split and saves their content."""

    def __init__(self, work: Path, count: int) -> None:
        self._work, self._folder, self._count = work, work / FOLDER, count
        self._heaps: dict[str, list[_Selected]] = {}
        self._offsets: dict[str, Offsets] = {}
        self._file: BinaryIO | None = None
        make_folder(self._folder)
        remove_temporaries(self._folder)

    def restore(self, shard: PlannedShard) -> None:
        """Select from the samples of a finished shard, whose `start` is an index in the whole split."""
        stem = Path(shard.name).stem
        rows = load_rows(self._work, shard.name).select(["key", "shard", "reason"])
        for index, key in _stored_samples(rows, shard.start):
            self._select(shard.split, key, index, stem)

    @contextmanager
    def of_shard(self, name: str) -> Iterator[None]:
        """Accept samples of this shard with `offer` while the block runs; its end moves their file into place."""
        stem = Path(name).stem
        self._offsets[stem] = {}
        with open_atomic(self._folder / f"{stem}.bin") as self._file:
            yield
        self._file = None
        selected = {str(each.index) for heap in self._heaps.values() for each in heap if each.shard == stem}
        offsets = {index: offset for index, offset in self._offsets[stem].items() if index in selected}
        write_atomic(self._folder / f"{stem}.json", encode_json_with_digest(offsets))
        self._offsets[stem] = offsets

    def offer(self, split: str, key: str, index: int, name: str, stored: Stored) -> None:
        """Offer a usable sample of the shard; its content is saved if it is selected.

        Raises `JobError` if the content can no longer be read.
        """
        stem = Path(name).stem
        if not self._select(split, key, index, stem) or self._file is None:
            return
        try:
            data = read_stored(stored)
        except BadSignalError as error:
            raise JobError(
                f"sample {key} of split {split!r} cannot be read since it was encoded: {error}; restore it and run the "
                "same command again to continue"
            ) from error
        self._offsets[stem][str(index)] = self._file.tell(), len(data)
        self._file.write(data)

    def remove_unneeded(self) -> None:
        """Remove the files of shards without selected samples; to be called when a shard is done."""
        needed = {each.shard for heap in self._heaps.values() for each in heap}
        for name in os.listdir(self._folder):
            if not name.startswith(".") and Path(name).stem not in needed:
                remove_file(self._folder / name)

    def slices(self, split: str) -> dict[int, FileSlice]:
        """Return the locations of the selected samples' content by the samples' index in the split.

        Raises `JobError` if a file is missing or damaged.
        """
        return {each.index: self._slice(each) for each in self._heaps.get(split, ())}

    def _slice(self, selected: _Selected) -> FileSlice:
        path = self._folder / f"{selected.shard}.json"
        try:
            if selected.shard not in self._offsets:
                self._offsets[selected.shard] = require_type(Offsets, read_json_with_digest(path), str(path))
            offset, num_bytes = self._offsets[selected.shard][str(selected.index)]
        except (OSError, DamagedError, KeyError) as error:
            raise JobError(
                f"{path} is missing or has been damaged since it was written; start over with --restart"
            ) from error
        return FileSlice(str(path.with_suffix(".bin").absolute()), offset, num_bytes)

    def _select(self, split: str, key: str, index: int, stem: str) -> bool:
        """Add a sample if its key hash is small enough; returns whether it is selected."""
        heap = self._heaps.setdefault(split, [])
        selected = _Selected(-int(key_hash(key), 16), index, stem)
        if len(heap) < self._count:
            heapq.heappush(heap, selected)
            return True
        return heapq.heappushpop(heap, selected) is not selected


def _stored_samples(rows: pa.Table, start: int) -> Iterator[tuple[int, str]]:
    """Yield index and key of the samples that were stored when the shard was made, including removed duplicates."""
    columns = rows.to_pydict()
    for index, (key, shard, reason) in enumerate(
        zip(columns["key"], columns["shard"], columns["reason"], strict=True), start=start
    ):
        if shard is not None or reason == DUPLICATE:
            yield index, key
