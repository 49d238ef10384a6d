"""The shards of a stream's split that an interrupted job has made, and a comparison of their samples with the stream.

A resumed stream is read from its start where it cannot seek, since such streams (`datasets`, an iterator) draw the
samples that they skip anyway. Hashing them is cheap in comparison and detects any change, whereas checking the last
sample alone would only detect a shift.
"""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator
from pathlib import Path

from datasets_prep.ledger.shard_records import ShardRecord, load_record, load_rows
from datasets_prep.samples.planned_shard import PlannedShard, shard_name
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.stream_shards import stored_bytes
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError
from walloc_cdl.latents import WORK_NAME

RESTART = "restore the old stream, or start over with --restart"


class FinishedShards:
    """The finished shards of one split, by number. They may have gaps, since a shard may have been damaged later."""

    def __init__(self, folder: Path, digest: str, split: str, shard_samples: int) -> None:
        self.split = split
        self._folder, self._work, self._digest = folder, folder / WORK_NAME, digest
        self._shard_samples = shard_samples
        self._num_samples: dict[int, int] = {}
        self._rows: tuple[int, list[dict[str, object]]] = (-1, [])
        for number in self._numbers():
            name = shard_name(split, number)
            if load_record(folder, self._work, PlannedShard(name, split, 0, 0), digest) is not None:
                self._num_samples[number] = load_rows(self._work, name).num_rows

    def __contains__(self, number: int) -> bool:
        return number in self._num_samples

    def __len__(self) -> int:
        return len(self._num_samples)

    @property
    def num_leading(self) -> int:
        """Number of samples of the shards before the first unfinished one."""
        numbers = itertools.takewhile(self._num_samples.__contains__, itertools.count())
        return sum(self._num_samples[number] for number in numbers)

    def shards(self) -> list[PlannedShard]:
        """Return the finished shards in order; `start` and `stop` are indices in the whole split."""
        starts = {number: number * self._shard_samples for number in sorted(self._num_samples)}
        return [
            PlannedShard(shard_name(self.split, number), self.split, start, start + self._num_samples[number])
            for number, start in starts.items()
        ]

    def records(self) -> Iterator[tuple[PlannedShard, ShardRecord]]:
        """Yield each finished shard with its record."""
        for shard in self.shards():
            record = load_record(self._folder, self._work, shard, self._digest)
            if record is not None:
                yield shard, record

    def require_same(self, index: int, sample: tuple[str, int, Stored]) -> None:
        """Raise `CallError` unless the sample with this index in the split is the one that was encoded.

        `sample`: its key, class number and content. Only the size is compared if the content is not bytes.
        """
        number, position = divmod(index, self._shard_samples)
        rows = self._rows_of(number)
        if position >= len(rows):
            raise CallError(
                f"split {self.split!r} ended after {index:,} samples when it was encoded, and has more now; {RESTART}"
            )
        key, label, stored = sample
        row = rows[position]
        found: dict[str, object] = {"key": key, "label": label, "num_bytes": stored_bytes(stored)}
        if isinstance(stored, bytes) and row["sha256"] is not None:
            found["sha256"] = sha256_hex(stored)
        for name, value in found.items():
            if value != row[name]:
                raise CallError(
                    f"sample {index} of split {self.split!r} has another {name} than when it was encoded "
                    f"({str(value)[:24]}, before {str(row[name])[:24]}); {RESTART}"
                )

    def require_end(self, num_samples: int) -> None:
        """Raise `CallError` if the stream ended after `num_samples` samples, but had more when it was encoded."""
        before = max((shard.stop for shard in self.shards()), default=0)
        if num_samples < before:
            raise CallError(
                f"split {self.split!r} has ended after {num_samples:,} samples, of which {before:,} were encoded "
                f"before; {RESTART}"
            )

    def _rows_of(self, number: int) -> list[dict[str, object]]:
        """Return the ledger's rows of one shard, and cache those of the last shard."""
        if self._rows[0] != number:
            rows = load_rows(self._work, shard_name(self.split, number))
            self._rows = number, rows.select(["key", "label", "num_bytes", "sha256"]).to_pylist()
        return self._rows[1]

    def _numbers(self) -> list[int]:
        """Return the numbers of all shards that have a record."""
        stems = (path.stem for path in self._work.glob(f"{glob.escape(self.split)}-*.json"))
        numbers = (stem.removeprefix(f"{self.split}-") for stem in stems)
        return sorted(int(number) for number in numbers if number.isascii() and number.isdecimal())
