"""Decodes and resizes all samples of a source, as the limit of a conversion.

Worker processes import this module, so it does not import torch: the start of the workers is part of the time.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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

CHUNK_SAMPLES = 16


def decode_all(source: Source, preparation: Preparation, workers: int) -> int:
    """Decode all samples in `workers` processes, or in this one if it is 0; returns the number of samples."""
    return _over_all(source, _decode_only, preparation, workers)


def decode_by_pillow(source: Source, preparation: ImagePreparation, workers: int) -> int:
    """Do the same with Pillow's decoder, Lanczos filter and crop alone, as most pipelines do."""
    return _over_all(source, _pillow_only, preparation, workers)


def _over_all(source: Source, work: Callable[..., None], preparation: Preparation, workers: int) -> int:
    total = sum(source.num_samples(split) for split in source.split_names)
    if not workers:
        for samples in _chunks(source):
            work(samples, preparation)
        return total
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(work, _chunks(source), itertools.repeat(preparation), chunksize=1):
            pass
    return total


def _decode_only(samples: Sequence[Stored], preparation: Preparation) -> None:
    decode_chunk(samples, preparation)


def _pillow_only(samples: Sequence[Stored], preparation: ImagePreparation) -> None:
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
