"""The context that the parts of a job share, and the interface of engines."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan import Plan
from datasets_prep.job.progress import Reporter
from datasets_prep.job.read_failures import ReadFailures
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.latents import WORK_NAME


@dataclass(frozen=True)
class JobContext:
    """One job in its output folder, created once the folder is locked.

    A part of the job that works on a subset of the samples, such as a cluster's task on those of one shard, replaces
    `source`.
    """

    folder: Path
    """Folder of the data set."""
    plan: Plan
    """The plan that the job follows; a resumed job follows the plan of an earlier call."""
    plan_digest: str
    """Ties the records of shards to their plan. A stream's plan gets its shards at the end, and keeps this digest."""
    source: Source
    """The samples to store: clips are cut into segments, and the limit is applied."""
    preparation: Preparation
    codec: Codec
    config: PrepareConfig
    workers: int
    """Decoding processes; 0 decodes in the calling process."""
    reporter: Reporter
    read_failures: ReadFailures = field(default_factory=ReadFailures)
    started_s: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    drift: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Differences of this run's device and versions from the plan: field, the plan's value, this run's value."""

    @property
    def work(self) -> Path:
        """The work folder, which holds the plan and the records of shards."""
        return self.folder / WORK_NAME


class Engine(Protocol):
    """Makes shards. `name` is recorded in the provenance."""

    name: str

    def encode(self, context: JobContext, shards: Sequence[PlannedShard]) -> Generator[ShardRecord, None, None]:
        """Write the files and records of these shards; yields each record when its shard is done, in any order.

        The engine reports finished samples to the context's reporter, and its worker status at the start and whenever
        that changes. Closing the generator stops the remaining work.
        """
        ...
