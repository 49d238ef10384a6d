"""What a form of export is: which files it makes, and how each is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from datasets_prep.folders.verified_read import ShardSamples
from walloc_cdl.latents import Manifest, ShardEntry


@dataclass(frozen=True)
class Part:
    """One file of an export; the unit of work, which is there in full or not at all."""

    name: str
    """Path below the export's folder."""
    split: str
    shards: tuple[ShardEntry, ...]
    """Those that its samples come from, in order."""
    start: int = 0
    """The number of its first sample in the split."""
    holds_codes: bool = True
    """Whether the samples' codes are in it; a part without them needs no checksums, which another part has checked."""

    @property
    def num_samples(self) -> int:
        """Samples in this file."""
        return sum(entry.num_samples for entry in self.shards)


class Form(Protocol):
    """A form that data sets are exported to."""

    name: str

    def parts(self, manifest: Manifest, splits: Sequence[str]) -> list[Part]:
        """The files to write; raises `CallError` for a data set that this form cannot hold."""
        ...

    def write(self, file: BinaryIO, part: Part, manifest: Manifest, samples: Iterable[ShardSamples]) -> None:
        """Write one file from its shards, of which one at a time is in use."""
        ...

    def side_files(self, manifest: Manifest, parts: Sequence[Part]) -> dict[str, bytes]:
        """Small files that make the folder readable, by path; they are written after the parts."""
        ...

    def header(self, parts: Sequence[Part]) -> str:
        """What stands before the first line of README.md."""
        ...

    def example(self, manifest: Manifest, part: Part) -> str:
        """Lines of Python, run in the folder, that leave the codes of some samples of `part` in `codes`."""
        ...


def part_for_each_shard(manifest: Manifest, splits: Sequence[str], name: str) -> list[Part]:
    """A file for each shard; `name` has the places {split} and {number:05d}. An empty split gets an empty file."""
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
