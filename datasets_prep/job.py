"""`prepare`: encode a source once. The unit of work is one shard, and the same call again goes on with the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from datasets_prep import locks
from datasets_prep.config import PrepareConfig
from datasets_prep.encoding import choose_device, device_kind
from datasets_prep.engines.base import Engine, Job
from datasets_prep.engines.choose import choose_engine
from datasets_prep.failures import resumable
from datasets_prep.finish import Effort, finish
from datasets_prep.output import finished_manifest, open_output, remove_work
from datasets_prep.plan import Plan, PlannedShard, make_plan
from datasets_prep.progress import Progress, Reporter
from datasets_prep.records import ShardRecord, load_record, was_made
from datasets_prep.signals.audio import AudioPreparation
from datasets_prep.signals.base import Preparation
from datasets_prep.signals.choose import choose_preparation
from datasets_prep.sources.audiofolder import SegmentedSource
from datasets_prep.sources.base import Source
from datasets_prep.sources.keyed import KeyedSource
from datasets_prep.splits import first
from datasets_prep.workers import cpu_count
from walloc_cdl.canonical import differences
from walloc_cdl.codec import Codec
from walloc_cdl.data import is_address
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import WORK_NAME, Manifest

FEW_SAMPLES = 128
"""Up to here starting workers takes longer than decoding."""


def prepare(
    source: Source,
    codec: Codec,
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest | None:
    """Encode `source` into the data set folder `out`, or go on with doing so; returns the data set's manifest.

    A finished data set of the same plan is left as it is. Samples that cannot be used go to the ledger
    with the reason. `progress` is called every few samples, and an exception that it raises stops the
    job, which can be resumed as after any other interruption. A slice of a job (`config.shards`) makes its
    shards only and returns None. With `config.extend` see `datasets_prep.extend.extend`.

    Raises `CallError` for a call that cannot work (kinds, sizes, channels, output folder, a folder that
    somebody else is working on), before anything is written, and `JobError` when a worker dies, too many
    samples are bad, the source vanishes, no sample is usable, or the system refuses what is asked of it.
    """
    started_s = time.time()
    config = config or PrepareConfig()
    if is_address(out):
        raise CallError(f"{out} is an address, not a folder; `prepare_to` writes there")
    choose_engine(config)  # an unknown one is refused before anything is done
    if config.extend:
        from datasets_prep.extend import extend  # which is built on this module

        return extend(source, codec, out, config, progress=progress)
    folder = Path(out)
    planned = plan_job(source, codec, config)
    with resumable(folder):
        return _prepare(folder, planned, codec, config, progress, started_s)


def _prepare(
    folder: Path,
    planned: PlannedJob,
    codec: Codec,
    config: PrepareConfig,
    progress: Callable[[Progress], None] | None,
    started_s: float,
) -> Manifest | None:
    """`prepare` of what is planned."""
    plan = planned.plan
    if (manifest := finished_manifest(folder, plan, restart=config.restart)) is not None:
        if progress is not None:
            note = f"{folder} is finished already; nothing to do"
            progress(Progress(plan.num_samples, plan.num_samples, 0, note=note))
        return manifest
    with _held(folder, config):
        with locks.planning(folder / WORK_NAME):
            plan = open_output(folder, plan, restart=config.restart, allow_drift=config.allow_drift)
        return _run(folder, plan, planned, codec, config, progress, started_s)


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


def _held(folder: Path, config: PrepareConfig) -> AbstractContextManager[None]:
    """The lock of this call."""
    if config.slice is None:
        return locks.whole_job(folder / WORK_NAME)
    return locks.slice_of_job(folder / WORK_NAME, "{}-of-{}".format(*config.slice))


def _run(
    folder: Path,
    plan: Plan,
    planned: PlannedJob,
    codec: Codec,
    config: PrepareConfig,
    progress: Callable[[Progress], None] | None,
    started_s: float,
) -> Manifest | None:
    shards = plan.shards if config.slice is None else plan.shards[config.slice[0] - 1 :: config.slice[1]]
    encoded = encode_shards(folder, plan, shards, planned, codec, config, progress)
    if config.slice is not None:
        encoded.reporter.note(
            f"slice {config.shards} is done; when all are, run the same with --finish instead of --shards"
        )
        return None
    fits = codec.spec.kind == "image" and not planned.preparation.ragged
    synthesis = "fitting the linear synthesis, " if fits else ""
    encoded.reporter.note(f"{synthesis}writing ledger and manifest")
    drift = differences(plan.engine, planned.plan.engine)
    effort = Effort(encoded.engine, started_s, encoded.num_encoded, drift)
    manifest = finish(encoded.job, plan, effort, drop_duplicates=config.drop_duplicates)
    remove_work(folder)
    return manifest


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
    engine, workers = choose_engine(config), choose_workers(config, num_samples)
    reporter = Reporter(num_samples, workers, config.max_bad, progress)
    reporter.resume(done(), len(shards))
    # a shard that was made and then lost, as when leaving out duplicates was interrupted, is made again here
    never_made = [shard for shard in pending if not was_made(folder / WORK_NAME, shard)]
    if config.finish and never_made:
        raise JobError(_unfinished(never_made, len(shards)))
    job = Job(folder, digest, planned.source, planned.preparation, codec, config.device, config.batch, workers)
    _encode(engine, job, pending, reporter)
    return Encoded(job, engine.name, sum(shard.num_samples for shard in pending), reporter)


def _encode(engine: Engine, job: Job, pending: list[PlannedShard], reporter: Reporter) -> None:
    if pending:
        with closing(engine.encode(job, pending, reporter.advance)) as records:
            for record in records:
                reporter.shard(record)


def choose_workers(config: PrepareConfig, num_samples: int) -> int:
    """Decoding processes for a job of so many samples."""
    if config.workers is not None:
        return config.workers
    return cpu_count() if num_samples > FEW_SAMPLES else 0


def _unfinished(pending: list[PlannedShard], total: int) -> str:
    names = ", ".join(shard.name for shard in pending[:3]) + (", …" if len(pending) > 3 else "")
    return f"{len(pending)} of {total} shards are missing ({names}); run their slices, or the same without --finish"
