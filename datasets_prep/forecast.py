"""What a job will take, before it is begun: `--dry-run`."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from datasets_prep.decode.worker import decode_chunk
from datasets_prep.encode.devices import alike_devices
from datasets_prep.encode.encoder import open_encoding
from datasets_prep.encode.sample_layout import sample_layout
from datasets_prep.job.choose_engine import choose_engine
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan_job import PlannedJob, choose_workers, plan_job
from datasets_prep.sources.core.source import Source
from datasets_prep.upkeep.extension import compare, require_folder
from walloc_cdl.codec import Codec
from walloc_cdl.devices import choose_device
from walloc_cdl.latents import load_manifest

MEASURED_SAMPLES = 48
"""So many samples are decoded and encoded for an estimate of the time."""

HEADER_BYTES = 1024
ROW_BYTES = 24
"""Of a shard, besides codes and keys: its header, and label, offset and checksum of each sample."""


@dataclass(frozen=True)
class Forecast:
    """A plan in figures."""

    source: str
    fingerprint: str
    num_samples: dict[str, int]
    """The number of source samples of each split."""
    num_strays: int
    latent_shape: tuple[int | None, ...]
    num_shards: int
    shard_bytes: int
    """The size of all shards, if every sample is usable; extrapolated where samples differ in size."""
    workers: int
    num_measured: int
    num_bad: int
    """Unusable ones among those measured."""
    time_s: float
    """For all samples, extrapolated."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def forecast(source: Source, codec: Codec, config: PrepareConfig) -> Forecast:
    """Plan the job and measure evenly spaced samples; writes nothing. Raises `CallError` as `prepare` does."""
    choose_engine(config)  # refuses what the job would
    return _measured(plan_job(source, codec, config))


def forecast_extension(
    source: Source, codec: Codec, out: str | os.PathLike[str], config: PrepareConfig
) -> tuple[Forecast, list[str]]:
    """The forecast of what `extend` would add to the data set `out`, with what it would say; writes nothing.

    Raises `CallError` as `extend` does.
    """
    folder = require_folder(out)
    choose_engine(config)
    planned = plan_job(source, codec, config)
    extension = compare(folder, planned, load_manifest(folder))
    expected = _measured(extension.job)
    return replace(expected, num_strays=len(extension.diff.strays)), extension.notes()


def _measured(planned: PlannedJob) -> Forecast:
    """The forecast of a planned job, by evenly spaced samples."""
    plan, source, codec, config = planned.plan, planned.source, planned.codec, planned.config
    total = plan.num_samples
    workers = choose_workers(config, total)
    preparation = planned.preparation
    layout = sample_layout(source, codec, preparation)
    devices = alike_devices(choose_device(config.device))
    encoding = open_encoding(codec, preparation, devices[0], batch=config.batch)  # one of them is measured
    chosen = [
        source.read(split, int(index))
        for split in source.split_names
        for index in _spaced(source.num_samples(split), math.ceil(MEASURED_SAMPLES / len(source.split_names)))
    ]
    none = np.zeros((1, *layout.view_axis, *preparation.shape), preparation.dtype)
    if (in_workers := encoding.in_workers) is None:
        list(encoding.encoder.encode([list(none) if layout.ragged else none]))  # compiles
    else:
        in_workers.encode(none.reshape(-1, *preparation.shape))
    start = time.perf_counter()
    chunk = decode_chunk(chosen, preparation, in_workers)
    decoded = time.perf_counter()
    batches = encoding.encoder.encode([chunk.signals] if len(chunk.signals) else [])
    codes = [sample for batch in batches for sample in batch]
    decode_s, encode_s = decoded - start, (time.perf_counter() - decoded) / len(devices)
    code_bytes = round(np.mean([sample.size for sample in codes])) if codes else math.prod(layout.sample_shape)
    per_sample = max(decode_s / workers, encode_s) if workers else decode_s + encode_s
    num = len(chosen)
    sizes = {split: size for split in source.split_names if (size := source.num_samples(split))}
    key_bytes = sum(len(source.key(split, 0)) * size for split, size in sizes.items())
    return Forecast(
        source=source.name,
        fingerprint=plan.source["fingerprint"],
        num_samples={split: source.num_samples(split) for split in source.split_names},
        num_strays=len(source.strays),
        latent_shape=layout.latent_shape,
        num_shards=len(plan.shards),
        shard_bytes=total * (code_bytes + ROW_BYTES) + key_bytes + HEADER_BYTES * len(plan.shards),
        workers=workers,
        num_measured=num,
        num_bad=len(chunk.reasons),
        time_s=per_sample / max(num, 1) * total,
    )


def _spaced(total: int, count: int) -> np.ndarray:
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)
