"""A planned shard: the range of a split's samples that becomes one file."""

from __future__ import annotations

from dataclasses import dataclass

from walloc_cdl.schema import Count


@dataclass(frozen=True)
class PlannedShard:
    """The source samples `start` to `stop` of a split, which become one shard file."""

    name: str
    split: str
    start: Count
    stop: Count

    @property
    def num_samples(self) -> int:
        """Number of source samples, including unusable ones."""
        return self.stop - self.start


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard with a number in its split."""
    return f"{split}-{number:05d}.safetensors"
