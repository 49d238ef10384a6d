"""A job in two steps, which every command that makes shards shares: its plan, then those shards that are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.config import PrepareConfig
from datasets_prep.encoding import choose_device, device_kind
from datasets_prep.engines.base import Engine, Job
from datasets_prep.engines.choose import choose_engine
from datasets_prep.plan import Plan, PlannedShard, make_plan
from datasets_prep.progress import Progress, Reporter
from datasets_prep.records import ShardRecord, load_record
from datasets_prep.signals.audio import AudioPreparation
from datasets_prep.signals.base import Preparation
from datasets_prep.signals.choose import choose_preparation
from datasets_prep.sources.audiofolder import SegmentedSource
from datasets_prep.sources.base import Source
from datasets_prep.sources.keyed import KeyedSource
from datasets_prep.splits import first
from datasets_prep.workers import cpu_count
from walloc_cdl.codec import Codec
from walloc_cdl.errors import JobError
from walloc_cdl.latents import WORK_NAME

FEW_SAMPLES = 128
"""Up to here starting workers takes longer than decoding."""


@dataclass(frozen=True)
class PlannedJob:
    """A plan with what it was made from."""

    plan: Plan
    source: Source
    """Its samples are those that are stored: clips cut into segments, and no more than the limit."""
    preparation: Preparation


def plan_job(source: Source, codec: Codec, config: PrepareConfig) -> PlannedJob:
    """The plan of a call of `prepare`, without looking at the output; raises `CallError` as that does."""
    preparation = choose_preparation(source, codec, config)
    if isinstance(preparation, AudioPreparation):
        source = SegmentedSource(source, preparation)
    if preparation.view_names:
        source = KeyedSource(source)
    if config.limit is not None:
        source = first(source, config.limit)
    plan = make_plan(
        source,
        codec,
        preparation,
        shard_samples=config.shard_samples,
        device=device_kind(choose_device(config.device)),
        batch=config.batch,
        drop_duplicates=config.drop_duplicates,
    )
    return PlannedJob(plan, source, preparation)


@dataclass(frozen=True)
class Encoded:
    """Shards of a plan that are done, with what that took."""

    job: Job
    engine: str
    num_encoded: int
    """Samples that this run decoded; the others were done before."""
    reporter: Reporter


def encode_shards(
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
    pending: list[PlannedShard] = []

    def done() -> Iterator[tuple[PlannedShard, ShardRecord]]:
        for shard in shards:
            record = load_record(folder, folder / WORK_NAME, shard, digest)
            if record is None:
                pending.append(shard)
            else:
                yield shard, record

    num_samples = sum(shard.num_samples for shard in shards)
    engine, workers = choose_engine(config.engine), choose_workers(config, num_samples)
    reporter = Reporter(num_samples, workers, config.max_bad, progress)
    reporter.resume(done(), len(shards))
    if config.finish and pending:
        raise JobError(_unfinished(pending, len(shards)))
    job = Job(folder, digest, planned.source, planned.preparation, codec, config.device, config.batch, workers)
    _encode(engine, job, pending, reporter)
    return Encoded(job, engine.name, sum(shard.num_samples for shard in pending), reporter)


def _encode(engine: Engine, job: Job, pending: list[PlannedShard], reporter: Reporter) -> None:
    if pending:
        for record in engine.encode(job, pending, reporter.advance):
            reporter.shard(record)


def choose_workers(config: PrepareConfig, num_samples: int) -> int:
    """Decoding processes for a job of so many samples."""
    if config.workers is not None:
        return config.workers
    return cpu_count() if num_samples > FEW_SAMPLES else 0


def _unfinished(pending: list[PlannedShard], total: int) -> str:
    names = ", ".join(shard.name for shard in pending[:3]) + (", …" if len(pending) > 3 else "")
    return f"{len(pending)} of {total} shards are missing ({names}); run their slices, or the same without --finish"
