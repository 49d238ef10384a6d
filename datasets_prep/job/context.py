"""What an engine gets, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datasets_prep.job.encode_shard import Done
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
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
        report_workers: Callable[[str], None],
    ) -> Generator[ShardRecord, None, None]:
        """Make these shards, files and records; yields each one's record when it is done, in any order.

        `report_workers` is told who is at work, for `Progress.worker_status`, at the beginning and whenever that
        changes.
        Closing the generator stops what is still going on.
        """
        ...
