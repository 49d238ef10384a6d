"""Runs a planned job: opens the output folder, makes the missing shards and completes the data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

from datasets_prep.folders import locks
from datasets_prep.job.choose_engine import choose_engine
from datasets_prep.job.config import PrepareConfig, choose_workers
from datasets_prep.job.context import JobContext
from datasets_prep.job.finish import finish, has_synthesis
from datasets_prep.job.output import finished_manifest, open_output, remove_work
from datasets_prep.job.plan import Plan
from datasets_prep.job.plan_job import PlannedJob
from datasets_prep.job.progress import Progress, Reporter, report_notes
from datasets_prep.ledger.shard_records import has_record, load_record
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.canonical import differences
from walloc_cdl.errors import JobError, abbreviate
from walloc_cdl.latents import WORK_NAME, Manifest

OnProgress = Callable[[Progress], None] | None
"""The callback of `prepare` that receives the job's progress."""


def run_job(planned: PlannedJob, folder: Path, progress: OnProgress, started_s: float) -> Manifest | None:
    """Start or resume a planned job in `folder`; see `datasets_prep.prepare_local.prepare`."""
    plan, config = planned.plan, planned.config
    manifest = finished_manifest(folder, plan, restart=config.restart)
    if manifest is None or (folder / WORK_NAME).is_dir():
        with call_lock(folder, config):
            with locks.planning_lock(folder / WORK_NAME):
                # again: before this call got the lock, another one may have completed the job or edited the data set
                manifest = finished_manifest(folder, plan, restart=config.restart)
                if manifest is None:
                    plan = open_output(folder, plan, restart=config.restart, allow_drift=config.allow_drift)
            if manifest is None:
                return _make(planned, folder, plan, progress, started_s)
            if config.slice is None:  # other slices may use the work folder, too
                remove_work(folder)
    report_finished(folder, plan.num_samples, progress)
    return manifest


def report_finished(folder: Path, num_samples: int, progress: OnProgress) -> None:
    """Report that a data set of `num_samples` source samples is already finished."""
    if progress is not None:
        note = f"{folder} is already finished; nothing to do"
        progress(Progress(num_samples, num_samples, 0, note=note))


def call_lock(folder: Path, config: PrepareConfig) -> AbstractContextManager[None]:
    """Return the lock of this call: of the whole job or of its slice."""
    if config.slice is None:
        return locks.job_lock(folder / WORK_NAME)
    return locks.slice_lock(folder / WORK_NAME, "{}-of-{}".format(*config.slice))


def _make(planned: PlannedJob, folder: Path, plan: Plan, progress: OnProgress, started_s: float) -> Manifest | None:
    """Make the data set, or the shards of a slice; the caller holds the folder's lock and has saved the plan."""
    config = planned.config
    report_notes(planned.notes, plan.num_samples, progress)
    shards = plan.shards if config.slice is None else plan.shards[config.slice[0] - 1 :: config.slice[1]]
    context = open_context(planned, folder, plan, shards, progress, started_s)
    encode_pending(context, shards)
    if config.slice is not None:
        context.reporter.note(
            f"slice {config.shards} is done; when all slices are, run the same command with --finish instead of "
            "--shards"
        )
        return None
    return end_job(context)


def open_context(
    planned: PlannedJob,
    folder: Path,
    plan: Plan,
    shards: Sequence[PlannedShard],
    progress: OnProgress,
    started_s: float,
) -> JobContext:
    """Return the context of a job that makes these shards of `plan`, which is saved in the work folder of `folder`."""
    num_samples = sum(shard.num_samples for shard in shards)
    return JobContext(
        folder=folder,
        plan=plan,
        plan_digest=plan.digest(),
        source=planned.source,
        preparation=planned.preparation,
        codec=planned.codec,
        config=planned.config,
        workers=choose_workers(planned.config, num_samples),
        reporter=Reporter(num_samples, planned.config.max_bad, progress),
        started_s=started_s,
        drift=differences(plan.engine, planned.plan.engine),
    )


def encode_pending(context: JobContext, shards: Sequence[PlannedShard]) -> None:
    """Make the shards that have no valid record yet, with the engine of the configuration.

    The caller must hold the folder's lock and have saved the plan. Raises `JobError` as `prepare` does.
    """
    engine, reporter = choose_engine(context.config), context.reporter
    pending: list[PlannedShard] = []
    for shard in shards:
        record = load_record(context.folder, context.work, shard, context.plan_digest)
        if record is None:
            pending.append(shard)
        else:
            reporter.resume(shard, record)
    if len(pending) < len(shards):
        reporter.note(f"resumed: {len(shards) - len(pending)} of {len(shards)} shards are done")
    # A shard that was made and then lost, such as by an interrupted removal of duplicates, is made again here.
    never_made = [shard for shard in pending if not has_record(context.work, shard)]
    if context.config.finish and never_made:
        raise JobError(_missing_shards(never_made, len(shards)))
    if pending:
        with closing(engine.encode(context, pending)) as records:
            for record in records:
                reporter.shard(record)


def _missing_shards(missing: list[PlannedShard], total: int) -> str:
    names = abbreviate([shard.name for shard in missing], limit=3)
    return (
        f"{len(missing)} of {total} shards are missing ({names}); run their slices, or the same command without "
        "--finish"
    )


def end_job(context: JobContext) -> Manifest:
    """Complete a data set whose shards are all done, and remove the work folder. Raises as `finish` does."""
    synthesis = "fitting the linear synthesis, " if has_synthesis(context.codec, context.preparation) else ""
    context.reporter.note(f"{synthesis}writing ledger and manifest")
    manifest = finish(context)
    remove_work(context.folder)
    return manifest
