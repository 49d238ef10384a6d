"""Estimates the size and the time of a job before it is started (`--dry-run`)."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from datasets_prep.decode.worker import decode_chunk
from datasets_prep.encode.devices import same_kind_devices
from datasets_prep.encode.encoder import Encoder, open_encoding
from datasets_prep.encode.flip_rate import flip_rate
from datasets_prep.encode.sample_layout import sample_layout
from datasets_prep.job.choose_engine import choose_engine
from datasets_prep.job.config import PrepareConfig, choose_workers
from datasets_prep.job.finish import DECODING_THREADS, FLIP_SAMPLES, has_synthesis, num_calibration_samples
from datasets_prep.job.plan_job import PlannedJob, plan_job
from datasets_prep.job.read_failures import REPEAT, ReadFailures
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.source import Source
from datasets_prep.upkeep.extension import codec_at_stored_rate, compare, plan_extension, require_folder
from walloc_cdl.codec import Codec
from walloc_cdl.codec.fit.operators import fit_operators
from walloc_cdl.codec.fit.synthesis import fit_synthesis
from walloc_cdl.devices import choose_device
from walloc_cdl.latents import load_manifest
from walloc_cdl.latents.packing import to_stored
from walloc_cdl.machine import cpu_count

MEASURED_SAMPLES = 48
"""Number of samples that are decoded and encoded to estimate the time."""

MEASURED_AT_END = 16
"""Number of samples with which the end of a job is measured: calibration samples are decoded again."""

HEADER_BYTES = 1024
ROW_BYTES = 24
"""Bytes of a shard besides codes and keys: its header, and for each sample label, offset and checksum."""


@dataclass(frozen=True)
class Forecast:
    """The expected size and time of a job."""

    source: str
    fingerprint: str
    num_samples: dict[str, int]
    """Number of source samples of each split."""
    num_strays: int
    latent_shape: tuple[int | None, ...]
    num_shards: int
    shard_bytes: int
    """Total size of the shards if every sample is usable; extrapolated if samples differ in size."""
    workers: int
    num_measured: int
    num_bad: int
    """Number of unusable samples among those measured."""
    time_s: float
    """Time for all samples and for the end of the job, extrapolated, with the start of the program and the workers."""
    notes: tuple[str, ...] = ()
    """Messages for users that the job would begin with."""

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as plain values."""
        return asdict(self)


def forecast(source: Source, codec: Codec, config: PrepareConfig, *, start_s: float = 0.0) -> Forecast:
    """Plan a job and measure evenly spaced samples, without writing.

    `start_s` is the time in seconds that the program takes before the job, which is added. Raises `CallError` and, for
    samples that the system cannot read, `JobError` as `prepare` does.
    """
    choose_engine(config)  # raises the error that the job would raise
    return _measured(plan_job(source, codec, config), start_s)


def forecast_extension(
    source: Source, codec: Codec, out: str | os.PathLike[str], config: PrepareConfig, *, start_s: float = 0.0
) -> tuple[Forecast, list[str]]:
    """Return the forecast of `extend` for the data set `out`, and its messages, without writing.

    `start_s` is that of `forecast`. Raises `CallError` and `JobError` as `extend` does.
    """
    folder = require_folder(out)
    choose_engine(config)
    planned = plan_extension(source, codec_at_stored_rate(folder, codec), folder, config)
    extension = compare(folder, planned, load_manifest(folder))
    expected = _measured(extension.job, start_s)
    return replace(expected, num_strays=len(extension.diff.strays)), extension.notes()


def _measured(planned: PlannedJob, start_s: float) -> Forecast:
    """Measure evenly spaced samples of a planned job."""
    plan, source, codec, config = planned.plan, planned.source, planned.codec, planned.config
    total = plan.num_samples
    workers = choose_workers(config, total)
    preparation = planned.preparation
    layout = sample_layout(source, codec, preparation)
    devices = same_kind_devices(choose_device(config.device))
    encoding = open_encoding(codec, preparation, devices[0], batch=config.batch)  # measures one of the devices
    places = [
        (split, int(index))
        for split in source.split_names
        for index in _spaced(source.num_samples(split), math.ceil(MEASURED_SAMPLES / len(source.split_names)))
    ]
    samples = [source.read(*place) for place in places]
    zeros = np.zeros((1, *layout.view_axis, *preparation.shape), preparation.dtype)
    if (in_workers := encoding.in_workers) is None:
        list(encoding.encoder.encode([list(zeros) if layout.ragged else zeros]))  # compiles
    else:
        flat = zeros.reshape(-1, *preparation.shape)
        in_workers.encode_rows(flat) if in_workers.has_planes else in_workers.encode(flat)
    start = time.perf_counter()
    chunk = decode_chunk(samples, preparation, in_workers)
    decode_s = time.perf_counter() - start
    ReadFailures(REPEAT).check_places(source, places, chunk, config.unreadable)  # as the job would
    start = time.perf_counter()
    batches = encoding.encoder.encode([chunk.signals] if len(chunk.signals) else [])
    stored = [sample for batch in batches for sample in to_stored(batch, layout)]
    encode_s = (time.perf_counter() - start) / len(devices)
    code_bytes = round(np.mean([sample.size for sample in stored])) if stored else math.prod(layout.stored_shape)
    per_sample = max(decode_s / workers, encode_s) if workers else decode_s + encode_s
    num = len(samples)
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
        time_s=start_s + _workers_start_s(workers) + per_sample / max(num, 1) * total + _end_s(planned, samples),
        notes=planned.notes,
    )


def _workers_start_s(workers: int) -> float:
    """Measure the start of a process like that of a worker; several start one after the other on each CPU."""
    if not workers:
        return 0.0
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {decode_chunk.__module__}"], check=False)
    return (time.perf_counter() - start) * math.ceil(workers / cpu_count())


def _end_s(planned: PlannedJob, samples: Sequence[Stored]) -> float:
    """Estimate the end of the job: some samples are decoded again, for the linear synthesis and for the flip rate."""
    codec, preparation, total = planned.codec, planned.preparation, planned.plan.num_samples
    count = min(num_calibration_samples(codec, preparation), total)
    some = samples[:MEASURED_AT_END]
    start = time.perf_counter()
    signals = decode_chunk(some, preparation).signals
    decoded = time.perf_counter()
    decode_s = (decoded - start) / max(len(some), 1) * count / min(DECODING_THREADS, cpu_count())
    if preparation.ragged or not len(signals):
        return decode_s
    signals = preparation.evaluation_signals(signals)
    on_cpu = copy.deepcopy(codec).cpu()
    if has_synthesis(codec, preparation):
        fit_synthesis(on_cpu, [torch.from_numpy(signals)])
        fit_operators(on_cpu, [torch.from_numpy(signals)])
    fitted = time.perf_counter()
    device = choose_device(planned.config.device)
    flip_rate(on_cpu, Encoder(on_cpu, device, batch=planned.config.batch, signal_shape=preparation.shape), signals)
    flip_s = (time.perf_counter() - fitted) * min(FLIP_SAMPLES, count) / len(signals)
    return decode_s + (fitted - decoded) * count / len(signals) + flip_s


def _spaced(total: int, count: int) -> np.ndarray:
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)
