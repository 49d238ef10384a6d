"""Making those shards of a plan that are not done yet, by the engine of the call's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.job.choose_engine import choose_engine
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.context import Engine, Job
from datasets_prep.job.plan import Plan
from datasets_prep.job.plan_job import PlannedJob, choose_workers
from datasets_prep.job.progress import Progress, Reporter
from datasets_prep.ledger.shard_records import load_record, was_made
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.codec import Codec
from walloc_cdl.errors import JobError, abbreviate
from walloc_cdl.latents import WORK_NAME


@dataclass(frozen=True)
class Encoded:
    """Shards of a plan that are done, with what that took."""

    job: Job
    engine: str
    num_encoded: int
    """Samples that this run decoded; the others were done before."""
    reporter: Reporter


def encode_pending(
    folder: Path,
    plan: Plan,
    shards: Sequence[PlannedShard],
    planned: PlannedJob,
    codec: Codec,
    config: PrepareConfig,
    progress: Callable[[Progress], None] | None,
) -> Encoded:
    """Make those of the plan's `shards` in `folder` that are not done there yet, with their records.

    Call it with the folder held and the plan saved. Raises `JobError` as `prepare` does.
    """
    digest = plan.digest()
    num_samples = sum(shard.num_samples for shard in shards)
    engine, workers = choose_engine(config), choose_workers(config, num_samples)
    reporter = Reporter(num_samples, config.max_bad, progress)
    pending: list[PlannedShard] = []
    for shard in shards:
        record = load_record(folder, folder / WORK_NAME, shard, digest)
        if record is None:
            pending.append(shard)
        else:
            reporter.resume(shard, record)
    if len(pending) < len(shards):
        reporter.note(f"resumed: {len(shards) - len(pending)} of {len(shards)} shards are done")
    # a shard that was made and then lost, as when leaving out duplicates was interrupted, is made again here
    never_made = [shard for shard in pending if not was_made(folder / WORK_NAME, shard)]
    if config.finish and never_made:
        raise JobError(_unfinished(never_made, len(shards)))
    job = Job(folder, digest, planned.source, planned.preparation, codec, config.device, config.batch, workers)
    _encode(engine, job, pending, reporter)
    return Encoded(job, engine.name, sum(shard.num_samples for shard in pending), reporter)


def _encode(engine: Engine, job: Job, pending: list[PlannedShard], reporter: Reporter) -> None:
    if pending:
        with closing(engine.encode(job, pending, reporter.advance, reporter.worker_status)) as records:
            for record in records:
                reporter.shard(record)


def _unfinished(pending: list[PlannedShard], total: int) -> str:
    names = abbreviate([shard.name for shard in pending], limit=3)
    return f"{len(pending)} of {total} shards are missing ({names}); run their slices, or the same without --finish"
