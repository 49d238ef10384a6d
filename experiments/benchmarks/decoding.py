"""Decoding and resizing all samples of a source, and nothing else.

Worker processes load this module, so it imports no torch: the start of the workers is part of the time.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from datasets_prep.decoding import decode_chunk
from datasets_prep.signals.base import Preparation, Stored

if TYPE_CHECKING:
    from datasets_prep.sources.base import Source

CHUNK_SAMPLES = 16


def decode_all(source: Source, preparation: Preparation, workers: int) -> int:
    """Decode every sample in so many processes, 0 for this one; returns how many there are."""
    total = sum(source.num_samples(split) for split in source.split_names)
    if not workers:
        for samples in _chunks(source):
            decode_chunk(samples, preparation)
        return total
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(_decode_only, _chunks(source), itertools.repeat(preparation), chunksize=1):
            pass
    return total


def _decode_only(samples: Sequence[Stored], preparation: Preparation) -> None:
    decode_chunk(samples, preparation)


def _chunks(source: Source) -> Iterator[list[Stored]]:
    for split in source.split_names:
        total = source.num_samples(split)
        for start in range(0, total, CHUNK_SAMPLES):
            yield [source.read(split, index) for index in range(start, min(start + CHUNK_SAMPLES, total))]
