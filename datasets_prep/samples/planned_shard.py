"""The samples of a split that become one shard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedShard:
    """The source samples `start` to `stop` of a split, which become one file."""

    name: str
    split: str
    start: int
    stop: int

    @property
    def num_samples(self) -> int:
        """Number of source samples, the unusable ones among them included."""
        return self.stop - self.start


def shard_name(split: str, number: int) -> str:
    """The file of a shard, by its number in the split."""
    return f"{split}-{number:05d}.safetensors"
