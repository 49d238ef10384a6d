"""What a job will take, before it is begun: `--dry-run`."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from datasets_prep.config import PrepareConfig
from datasets_prep.decoding import decode_chunk
from datasets_prep.encoding import Encoder, choose_device
from datasets_prep.job import choose_workers, plan_job
from datasets_prep.sources.base import Source
from walloc_cdl.codec import Codec

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
    """Of each split."""
    num_strays: int
    latent_shape: tuple[int, ...]
    num_shards: int
    shard_bytes: int
    """Of all shards, if every sample is usable."""
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
    planned = plan_job(source, codec, config)
    plan, source = planned.plan, planned.source
    latent_shape = codec.latent_shape(planned.preparation.shape)
    total = plan.num_samples
    workers = choose_workers(config, total)
    encoder = Encoder(codec, choose_device(config.device), batch=config.batch, signal_shape=planned.preparation.shape)
    chosen = [
        source.read(split, int(index))
        for split in source.split_names
        for index in _spaced(source.num_samples(split), math.ceil(MEASURED_SAMPLES / len(source.split_names)))
    ]
    none = np.zeros((1, *planned.preparation.shape), planned.preparation.dtype)
    list(encoder.encode([none]))  # compiles
    start = time.perf_counter()
    chunk = decode_chunk(chosen, planned.preparation)
    decoded = time.perf_counter()
    if len(chunk.signals):
        list(encoder.encode([chunk.signals]))
    encoded = time.perf_counter()
    per_sample = max((decoded - start) / max(workers, 1), encoded - decoded) if workers else encoded - start
    num = len(chosen)
    key_bytes = sum(len(source.key(split, 0)) * source.num_samples(split) for split in source.split_names if total)
    return Forecast(
        source=source.name,
        fingerprint=plan.source["fingerprint"],
        num_samples=plan.source["num_samples"],
        num_strays=len(source.strays),
        latent_shape=latent_shape,
        num_shards=len(plan.shards),
        shard_bytes=total * (math.prod(latent_shape) + ROW_BYTES) + key_bytes + HEADER_BYTES * len(plan.shards),
        workers=workers,
        num_measured=num,
        num_bad=len(chunk.reasons),
        time_s=per_sample / max(num, 1) * total,
    )


def _spaced(total: int, count: int) -> np.ndarray:
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)
