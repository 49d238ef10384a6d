"""What an engine gets, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datasets_prep.plan import PlannedShard
from datasets_prep.records import ShardRecord
from datasets_prep.shard_job import Done
from datasets_prep.signals.base import Preparation
from datasets_prep.sources.base import Source
from walloc_cdl.codec import Codec


@dataclass(frozen=True)
class Job:
    """All that the making of any shard needs."""

    folder: Path
    """The data set's."""
    plan_digest: str
    source: Source
    preparation: Preparation
    codec: Codec
    device: str
    batch: int
    workers: int


class Engine(Protocol):
    """Makes shards. `name` stands in the provenance."""

    name: str

    def encode(
        self,
        job: Job,
        shards: Sequence[PlannedShard],
        report: Callable[[Done], None],
        tell_crew: Callable[[str], None],
    ) -> Generator[ShardRecord, None, None]:
        """Make these shards, files and records; yields each one's record when it is done, in any order.

        `tell_crew` is told who is at work, as `Progress.crew` has it, at the beginning and whenever that changes.
        Closing the generator stops what is still going on.
        """
        ...
