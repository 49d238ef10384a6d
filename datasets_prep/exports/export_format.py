"""The interface of an export format: which files it consists of, and how each is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from datasets_prep.folders.verified_read import ShardSamples
from walloc_cdl.latents import Manifest, ShardEntry


@dataclass(frozen=True)
class Part:
    """One file of an export; the unit of work, which exists in full or not at all."""

    name: str
    """Path relative to the export's folder."""
    split: str
    shards: tuple[ShardEntry, ...]
    """The shards of its samples, in order."""
    start: int = 0
    """Number of its first sample in the split."""
    holds_codes: bool = True
    """Whether it contains the samples' codes; otherwise checksums are not compared, since another part does it."""

    @property
    def num_samples(self) -> int:
        """Samples in this file."""
        return sum(entry.num_samples for entry in self.shards)


class ExportFormat(Protocol):
    """A format that data sets are exported to."""

    name: str

    def parts(self, manifest: Manifest, splits: Sequence[str]) -> list[Part]:
        """Return the files to write; raises `CallError` for a data set that this format cannot hold."""
        ...

    def write(self, file: BinaryIO, part: Part, manifest: Manifest, samples: Iterable[ShardSamples]) -> None:
        """Write one file from the samples of its shards, which are read one shard at a time."""
        ...

    def side_files(self, manifest: Manifest, parts: Sequence[Part]) -> dict[str, bytes]:
        """Return the content of further small files that readers need, by path; they are written after the parts."""
        ...

    def header(self, parts: Sequence[Part]) -> str:
        """Return the text before the first line of README.md."""
        ...

    def example(self, manifest: Manifest, part: Part) -> str:
        """Return lines of Python that, run in the folder, assign the codes of some samples of `part` to `codes`."""
        ...


def part_for_each_shard(manifest: Manifest, splits: Sequence[str], name: str) -> list[Part]:
    """Return a file for each shard, and one for an empty split; `name` is formatted with `split` and `number`."""
    parts = []
    for split in splits:
        start = 0
        shards = manifest.shards_of(split)
        for number, entry in enumerate(shards):
            parts.append(Part(name.format(split=split, number=number), split, (entry,), start))
            start += entry.num_samples
        if not shards:
            parts.append(Part(name.format(split=split, number=0), split, ()))
    return parts
