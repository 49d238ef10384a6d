"""What the parts of a job have in common, and what an engine is."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan import Plan
from datasets_prep.job.progress import Reporter
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.latents import WORK_NAME


@dataclass(frozen=True)
class JobContext:
    """One job in its output folder: made when the folder is held, and passed on to its end.

    Where a part of the job works on samples of its own, as the node of a cluster does on those of one shard, it
    replaces `source`.
    """

    folder: Path
    """The folder of the data set."""
    plan: Plan
    """The plan that is followed; it is that of an earlier call where the job was resumed."""
    plan_digest: str
    """Ties the records of shards to their plan. A stream's plan gets its shards at the end, and keeps this digest."""
    source: Source
    """Its samples are those that are stored: clips cut into segments, and no more than the limit."""
    preparation: Preparation
    codec: Codec
    config: PrepareConfig
    workers: int
    """Decoding processes; 0 decodes in the calling process."""
    reporter: Reporter
    started_s: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    drift: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Where this run's device and versions are not those of the plan: field, the plan's value, this run's."""

    @property
    def work(self) -> Path:
        """The work folder, which has the plan and the records of shards."""
        return self.folder / WORK_NAME


class Engine(Protocol):
    """Makes shards. `name` is recorded in the provenance."""

    name: str

    def encode(self, context: JobContext, shards: Sequence[PlannedShard]) -> Generator[ShardRecord, None, None]:
        """Make these shards, files and records; yields each one's record when it is done, in any order.

        The reporter is told of samples that are done, and who is at work, for `Progress.worker_status`, at the
        beginning and whenever that changes. Closing the generator stops what is still going on.
        """
        ...
