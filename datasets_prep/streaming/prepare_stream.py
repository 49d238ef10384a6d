"""`prepare` of a stream: shards as the samples come, in order, and the end of any other job when there are no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from datasets_prep.decode.pool import DecodePool
from datasets_prep.encode.encoder import open_encoding
from datasets_prep.folders import locks
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.context import Job
from datasets_prep.job.encode_pending import Encoded
from datasets_prep.job.ending import end_job
from datasets_prep.job.finish import num_decoded_again
from datasets_prep.job.local import LocalEngine
from datasets_prep.job.output import finished_manifest, open_output, remove_work
from datasets_prep.job.plan import Plan, split_shards
from datasets_prep.job.plan_job import FEW_SAMPLES, choose_workers
from datasets_prep.job.progress import Progress, Reporter, counted
from datasets_prep.sources.core.limits import most_samples
from datasets_prep.sources.core.streaming_source import StreamingSource
from datasets_prep.streaming.done_shards import DoneShards
from datasets_prep.streaming.encode_shards import encode_walk
from datasets_prep.streaming.ended_source import StreamedSource
from datasets_prep.streaming.plan_stream import PlannedStream, plan_of_streamed, plan_stream
from datasets_prep.streaming.reservoir import Reservoir
from datasets_prep.streaming.split_ends import load_ends, save_ends
from datasets_prep.streaming.walk import Walk
from walloc_cdl.codec import Codec
from walloc_cdl.devices import choose_device
from walloc_cdl.latents import WORK_NAME, Manifest

Report = Callable[[Progress], None] | None


def prepare_stream(
    stream: StreamingSource, codec: Codec, folder: Path, config: PrepareConfig, *, progress: Report = None
) -> Manifest:
    """`datasets_prep.prepare_local.prepare` of a stream.

    The same call goes through the stream again, holds what is done against it, and goes on with the rest.
    Of a data set that is finished the stream's content is not looked at.
    """
    started_s, work = time.time(), folder / WORK_NAME
    planned = plan_stream(stream, codec, config)
    manifest = finished_manifest(folder, planned.plan, restart=config.restart)
    if manifest is None or work.is_dir():
        with locks.whole_job(work):
            # once more: until the lock was had, another call may have ended the job
            manifest = finished_manifest(folder, planned.plan, restart=config.restart)
            if manifest is None:
                with locks.planning(work):
                    plan = open_output(folder, planned.plan, restart=config.restart, allow_drift=config.allow_drift)
                return _run(folder, plan, planned, codec, config, progress, started_s)
            remove_work(folder)
    if progress is not None:
        total = sum(manifest.source["num_samples"].values())
        progress(Progress(total, total, 0, note=f"{folder} is finished already; nothing to do"))
    return manifest


def _run(
    folder: Path,
    plan: Plan,
    planned: PlannedStream,
    codec: Codec,
    config: PrepareConfig,
    progress: Report,
    started_s: float,
) -> Manifest:
    """All of it, the folder being held; `plan` is the one in the work folder."""
    encoded, whole = _encode(folder, plan, planned, codec, config, progress)
    return end_job(encoded, whole, planned.plan, started_s, drop_duplicates=config.drop_duplicates)


def _encode(
    folder: Path, plan: Plan, planned: PlannedStream, codec: Codec, config: PrepareConfig, progress: Report
) -> tuple[Encoded, Plan]:
    """Make the shards that are not done yet; with the plan of all of them."""
    work, digest, splits = folder / WORK_NAME, plan.digest(), planned.stream.split_names
    most = most_samples(planned.limit, len(splits))
    workers = choose_workers(config, FEW_SAMPLES + 1 if most is None else most)
    reporter = Reporter(None, config.max_bad, progress, worker_status=counted(workers, "worker"))
    reservoir = Reservoir(work, num_decoded_again(codec, planned.preparation))
    done = {split: DoneShards(folder, digest, split, planned.shard_samples) for split in splits}
    for shard, record in (pair for split in splits for pair in done[split].records()):
        reservoir.restore(shard)
        reporter.resume(shard, record)
    if num_done := sum(map(len, done.values())):
        reporter.note(f"resumed: {num_done} shards are done")
    ends, before = load_ends(work, digest), reporter.done
    encoding = open_encoding(codec, planned.preparation, choose_device(config.device), batch=config.batch)
    with DecodePool(workers, planned.preparation, encoding.in_workers) as pool:
        for split in splits:
            walk = Walk(planned, done[split], ends.get(split))
            for record in encode_walk(folder, digest, walk, reservoir, pool, encoding.encoder, reporter.advance):
                reporter.shard(record)
            if ends.get(split) != walk.num_samples:
                ends[split] = walk.num_samples
                save_ends(work, digest, ends)
    reporter.end()
    shards = [shard for split in splits for shard in split_shards(split, ends[split], planned.shard_samples)]
    keyed = bool(planned.preparation.view_names)
    source = StreamedSource(planned.facts, splits, work, shards, reservoir, keyed=keyed)
    job = Job(folder, digest, source, planned.preparation, codec, config.device, config.batch, workers)
    encoded = Encoded(job, LocalEngine.name, reporter.done - before, reporter)
    return encoded, plan_of_streamed(plan, source, shards)
