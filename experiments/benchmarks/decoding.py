"""Decodes, resizes and encodes all samples of a source, as the limit of a conversion.

Worker processes import this module, so it does not import torch: the start of the workers is timed.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.worker import decode_chunk
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import BadSignalError, Stored

if TYPE_CHECKING:
    from datasets_prep.sources.core.source import Source
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder

CHUNK_SAMPLES = 16
START_LIMIT_S = 300.0
"""Limit for the start of the workers, which may have to compile the kernels."""


def decode_all(
    source: Source,
    preparation: Preparation,
    workers: int,
    encoder: DetachedEncoder | None = None,
    on_started: Callable[[float], object] = lambda seconds: None,
) -> int:
    """Decode all samples, and encode them if there is an encoder, in `workers` processes, or in this one if it is 0.

    `on_started` receives the seconds until all workers have started, loaded their code and made one sample. Returns
    the number of samples.
    """
    return _over_all(source, _decode_only, preparation, encoder, workers, on_started)


def decode_by_pillow(
    source: Source,
    preparation: ImagePreparation,
    workers: int,
    on_started: Callable[[float], object] = lambda seconds: None,
) -> int:
    """Decode as `decode_all` does, with Pillow's decoder, Lanczos filter and crop alone, as most pipelines do."""
    return _over_all(source, _pillow_only, preparation, None, workers, on_started)


def _over_all(
    source: Source,
    work: Callable[..., None],
    preparation: Preparation,
    encoder: DetachedEncoder | None,
    workers: int,
    on_started: Callable[[float], object],
) -> int:
    total = sum(source.num_samples(split) for split in source.split_names)
    if not workers:
        for samples in _chunks(source):
            work(samples, preparation, encoder)
        return total
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers + 1)
    first = next(_chunks(source))[:1]
    start = time.perf_counter()
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(barrier, work, first, preparation, encoder)
    ) as pool:
        results = pool.map(work, _chunks(source), itertools.repeat(preparation), itertools.repeat(encoder), chunksize=1)
        barrier.wait(START_LIMIT_S)
        on_started(time.perf_counter() - start)
        for _ in results:
            pass
    return total


def _start(
    barrier: Barrier,
    work: Callable[..., None],
    samples: Sequence[Stored],
    preparation: Preparation,
    encoder: DetachedEncoder | None,
) -> None:
    work(samples, preparation, encoder)
    barrier.wait(START_LIMIT_S)


def _decode_only(samples: Sequence[Stored], preparation: Preparation, encoder: DetachedEncoder | None) -> None:
    decode_chunk(samples, preparation, encoder)


def _pillow_only(samples: Sequence[Stored], preparation: ImagePreparation, encoder: None) -> None:
    size, mode = preparation.size, "L" if preparation.channels == 1 else "RGB"
    for stored in samples:
        try:
            with Image.open(io.BytesIO(read_stored(stored))) as image:
                width, height = (max(1, size * side // min(image.size)) for side in image.size)
                resized = image.convert(mode).resize((width, height), Image.Resampling.LANCZOS)
        except (BadSignalError, OSError, ValueError):  # skipped, as in a conversion
            continue
        left, top = (width - size) // 2, (height - size) // 2
        np.asarray(resized.crop((left, top, left + size, top + size)))


def _chunks(source: Source) -> Iterator[list[Stored]]:
    for split in source.split_names:
        total = source.num_samples(split)
        for start in range(0, total, CHUNK_SAMPLES):
            yield [source.read(split, index) for index in range(start, min(start + CHUNK_SAMPLES, total))]
