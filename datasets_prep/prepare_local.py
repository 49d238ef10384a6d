"""`prepare`: encodes a source. The unit of work is one shard, and the same call resumes an interrupted job."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from datasets_prep.folders.system_errors import resumable
from datasets_prep.job.choose_engine import choose_engine
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan_job import plan_job
from datasets_prep.job.progress import Progress
from datasets_prep.job.run import run_job
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.core.streaming_source import StreamingSource
from datasets_prep.streaming.prepare_stream import prepare_stream
from datasets_prep.upkeep.extend import extend
from walloc_cdl.addresses import is_address, local_path, utf8_path
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import Manifest


def prepare(
    source: Source | StreamingSource,
    codec: Codec,
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest | None:
    """Encode `source` into the data set folder `out`, or resume an interrupted job; returns the data set's manifest.

    A finished data set of the same plan is not changed. Unusable samples are recorded in the ledger with the reason.
    `progress` is called every few samples; an exception that it raises stops the job, which can be resumed as after any
    other interruption. A slice of a job (`config.shards`) makes its shards only and returns None. See
    `datasets_prep.upkeep.extend.extend` for `config.extend`, and
    `datasets_prep.streaming.prepare_stream.prepare_stream` for streams.

    Raises `CallError` for an invalid call (kinds, sizes, channels, output folder, a folder that is locked by another
    job), before anything is written, and `JobError` if a worker dies, too many samples are unusable, the source is
    missing, no sample is usable, or the system reports an error.
    """
    started_s = time.time()
    config = config or PrepareConfig()
    if is_address(out):
        raise CallError(f"{out} is an address, not a folder; use `prepare_to` to write there")
    choose_engine(config)  # an engine that is not installed is refused first
    if isinstance(source, StreamingSource):
        with resumable(utf8_path(out)):
            return prepare_stream(source, codec, local_path(out), config, progress=progress)
    if not isinstance(source, Source):
        raise CallError(
            f"a {type(source).__name__} is not a source; wrap it: in MapSource(…) if it has a length and indices, else "
            "in IterableSource(…)"
        )
    if config.extend:
        return extend(source, codec, out, config, progress=progress)
    folder = utf8_path(out)
    planned = plan_job(source, codec, config)
    with resumable(folder):
        return run_job(planned, folder, progress, started_s)
