"""`prepare` with a stream: encodes its samples in order, and completes the data set as any other job when it ends.

A stream is not spooled to disk: files for the content of each shard would make it a source with random access, at the
price of writing and reading every sample once more, and of waiting for a shard to fill before it is decoded. Instead,
keys, labels and sizes of the open shard are in memory, and the shards' rows of the ledger are the only state:
resumption, fingerprint and counts are derived from them.

`--holdout` is not supported, `cdl split` of the data set is used instead: a stratified draw needs all samples of a
class, and a draw by key would read the stream once for each split.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from datasets_prep.decode.pool import DecodePool
from datasets_prep.encode.encoder import open_encoding
from datasets_prep.folders import locks
from datasets_prep.job.config import MAX_SAMPLES_WITHOUT_WORKERS, PrepareConfig, choose_workers
from datasets_prep.job.context import JobContext
from datasets_prep.job.finish import num_calibration_samples
from datasets_prep.job.output import finished_manifest, open_output, remove_work
from datasets_prep.job.plan import Plan, split_shards
from datasets_prep.job.progress import Reporter, count_text, report_notes
from datasets_prep.job.run import OnProgress, end_job, report_finished
from datasets_prep.sources.core.limits import most_samples, stream_note
from datasets_prep.sources.core.streaming_source import StreamingSource
from datasets_prep.streaming.encode_split import encode_split
from datasets_prep.streaming.finished_shards import FinishedShards
from datasets_prep.streaming.plan_stream import PlannedStream, completed_plan, plan_stream
from datasets_prep.streaming.reservoir import Reservoir
from datasets_prep.streaming.split_reader import SplitReader
from datasets_prep.streaming.split_sizes import load_split_sizes, save_split_sizes
from datasets_prep.streaming.streamed_source import StreamedSource
from walloc_cdl.canonical import differences
from walloc_cdl.codec import Codec
from walloc_cdl.devices import choose_device
from walloc_cdl.latents import WORK_NAME, Manifest


def prepare_stream(
    stream: StreamingSource, codec: Codec, folder: Path, config: PrepareConfig, *, progress: OnProgress = None
) -> Manifest:
    """Encode a stream into a data set; see `datasets_prep.prepare_local.prepare`.

    The same call resumes an interrupted job: it reads the stream again, compares finished shards with it, and encodes
    the rest. If the data set is already finished, the stream's content is not read.
    """
    started_s, work = time.time(), folder / WORK_NAME
    planned = plan_stream(stream, codec, config)
    manifest = finished_manifest(folder, planned.plan, restart=config.restart)
    if manifest is None or work.is_dir():
        with locks.job_lock(work):
            # again: before this call got the lock, another one may have completed the job
            manifest = finished_manifest(folder, planned.plan, restart=config.restart)
            if manifest is None:
                with locks.planning_lock(work):
                    plan = open_output(folder, planned.plan, restart=config.restart, allow_drift=config.allow_drift)
                report_notes([*stream.notes, *planned.notes, *stream_note(planned.limit)], None, progress)
                reservoir = Reservoir(work, num_calibration_samples(planned.codec, planned.preparation))
                context = _open_context(planned, folder, plan, reservoir, progress, started_s)
                return end_job(_encode(context, planned, reservoir))
            remove_work(folder)
    report_finished(folder, sum(manifest.source.get("num_samples", {}).values()), progress)
    return manifest


def _open_context(
    planned: PlannedStream, folder: Path, plan: Plan, reservoir: Reservoir, progress: OnProgress, started_s: float
) -> JobContext:
    """Return the context of the job, whose source and plan have no samples yet."""
    config = planned.config
    most = most_samples(planned.limit, len(planned.stream.split_names))
    workers = choose_workers(config, MAX_SAMPLES_WITHOUT_WORKERS + 1 if most is None else most)
    return JobContext(
        folder=folder,
        plan=plan,
        plan_digest=plan.digest(),
        source=StreamedSource(planned, folder / WORK_NAME, (), reservoir),
        preparation=planned.preparation,
        codec=planned.codec,
        config=config,
        workers=workers,
        reporter=Reporter(None, config.max_bad, progress, worker_status=count_text(workers, "worker")),
        started_s=started_s,
        drift=differences(plan.engine, planned.plan.engine),
    )


def _encode(context: JobContext, planned: PlannedStream, reservoir: Reservoir) -> JobContext:
    """Make the unfinished shards; returns the context with all samples and shards of the stream."""
    work, digest, splits, reporter = context.work, context.plan_digest, planned.stream.split_names, context.reporter
    finished = {split: FinishedShards(context.folder, digest, split, planned.shard_samples) for split in splits}
    for shard, record in (pair for split in splits for pair in finished[split].records()):
        reservoir.restore(shard)
        reporter.resume(shard, record)
    if num_finished := sum(map(len, finished.values())):
        reporter.note(f"resumed: {num_finished} shards are done")
    sizes = load_split_sizes(work, digest)
    device, batch = choose_device(context.config.device), context.config.batch
    encoding = open_encoding(context.codec, context.preparation, device, batch=batch)
    with DecodePool(context.workers, context.preparation, encoding.in_workers) as pool:
        for split in splits:
            reader = SplitReader(planned, finished[split], sizes.get(split))
            for record in encode_split(context, reader, reservoir, pool, encoding.encoder):
                reporter.shard(record)
            if sizes.get(split) != reader.num_samples:
                sizes[split] = reader.num_samples
                save_split_sizes(work, digest, sizes)
    reporter.end()
    shards = [shard for split in splits for shard in split_shards(split, sizes[split], planned.shard_samples)]
    source = StreamedSource(planned, work, shards, reservoir)
    return replace(context, source=source, plan=completed_plan(context.plan, source, shards))
