"""How long does `prepare` take, beside decoding and resizing the same images with the same workers and nothing else?

Decoding and resizing alone is the floor under any conversion: its workers send nothing back.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.config import PrepareConfig
from datasets_prep.decoding import decode_chunk
from datasets_prep.job import prepare
from datasets_prep.planned import choose_workers, plan_job
from datasets_prep.signals.base import Preparation, Stored
from datasets_prep.sources.base import Source
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError

CHUNK_SAMPLES = 16


@dataclass(frozen=True)
class PreparationSpeed:
    """Medians over the repeats, each of which ran both, one after the other."""

    num_samples: int
    workers: int
    repeats: int
    decode_s: float
    """Decoding and resizing alone."""
    prepare_s: float
    """The whole conversion: planning, decoding, encoding, writing, the fit of the synthesis, ledger and manifest."""
    ratio: float
    """Of the two, the median of the repeats' ratios."""
    ratio_range: tuple[float, float]


def measure_preparation(
    source: Source, codec: Codec, config: PrepareConfig, *, repeats: int = 3, folder: Path | str | None = None
) -> PreparationSpeed:
    """Time both on all samples of `source`, in a temporary folder below `folder`; reading warms the cache first.

    Raises `CallError` as `prepare` does, and for fewer repeats than one.
    """
    if repeats < 1:
        raise CallError(f"repeats is {repeats}; it must be at least 1")
    planned = plan_job(source, codec, config)
    workers = choose_workers(config, planned.plan.num_samples)
    _decode_all(planned.source, planned.preparation, workers)
    decoding, preparing = [], []
    for _ in range(repeats):
        decoding.append(_decode_all(planned.source, planned.preparation, workers))
        with tempfile.TemporaryDirectory(prefix="cdl-bench-", dir=folder) as out:
            start = time.perf_counter()
            prepare(source, codec, Path(out) / "set", config)
            preparing.append(time.perf_counter() - start)
    ratios = [whole / alone for whole, alone in zip(preparing, decoding, strict=True)]
    return PreparationSpeed(
        planned.plan.num_samples,
        workers,
        repeats,
        statistics.median(decoding),
        statistics.median(preparing),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
    )


def _decode_all(source: Source, preparation: Preparation, workers: int) -> float:
    """Seconds for all samples, the start of the workers included."""
    start = time.perf_counter()
    if not workers:
        for samples in _chunks(source):
            decode_chunk(samples, preparation)
        return time.perf_counter() - start
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(_decode_only, _chunks(source), itertools.repeat(preparation), chunksize=1):
            pass
    return time.perf_counter() - start


def _decode_only(samples: Sequence[Stored], preparation: Preparation) -> None:
    decode_chunk(samples, preparation)


def _chunks(source: Source) -> Iterator[list[Stored]]:
    for split in source.split_names:
        total = source.num_samples(split)
        for start in range(0, total, CHUNK_SAMPLES):
            yield [source.read(split, index) for index in range(start, min(start + CHUNK_SAMPLES, total))]
