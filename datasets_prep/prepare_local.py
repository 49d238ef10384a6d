"""`prepare`: encode a source once. The unit of work is one shard, and the same call again goes on with the rest."""

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
from walloc_cdl.addresses import is_address, local_path
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
    """Encode `source` into the data set folder `out`, or go on with doing so; returns the data set's manifest.

    A finished data set of the same plan is left as it is. Samples that cannot be used go to the ledger
    with the reason. `progress` is called every few samples, and an exception that it raises stops the
    job, which can be resumed as after any other interruption. A slice of a job (`config.shards`) makes its
    shards only and returns None. With `config.extend` see `datasets_prep.upkeep.extend.extend`, of streams
    `datasets_prep.streaming.prepare_stream.prepare_stream`.

    Raises `CallError` for a call that cannot work (kinds, sizes, channels, output folder, a folder that
    somebody else is working on), before anything is written, and `JobError` when a worker dies, too many
    samples are bad, the source vanishes, no sample is usable, or the system refuses what is asked of it.
    """
    started_s = time.time()
    config = config or PrepareConfig()
    if is_address(out):
        raise CallError(f"{out} is an address, not a folder; `prepare_to` writes there")
    choose_engine(config)  # one that is not installed is refused before anything is done
    if isinstance(source, StreamingSource):
        with resumable(local_path(out)):
            return prepare_stream(source, codec, local_path(out), config, progress=progress)
    if not isinstance(source, Source):
        raise CallError(
            f"a {type(source).__name__} is no source; wrap it: MapSource(…) with a length and indices, "
            "IterableSource(…) without"
        )
    if config.extend:
        return extend(source, codec, out, config, progress=progress)
    folder = local_path(out)
    planned = plan_job(source, codec, config)
    with resumable(folder):
        return run_job(planned, folder, progress, started_s)
