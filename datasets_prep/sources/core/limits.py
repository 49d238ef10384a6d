"""Limits of the number of samples: the setting `limit` of a job, for sources and streams, and the function `limit`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datasets_prep.sources.core.source import Source
from datasets_prep.sources.core.splits import SubsetSource
from walloc_cdl.errors import CallError


def within_limit(source: Source, num_samples: int | None) -> Source:
    """Return the samples that a job with this `limit` takes: the first of each split, in order; None for all.

    Raises `CallError` for a limit below 1.
    """
    return source if num_samples is None else _subset(source, num_samples, lambda total, count: np.arange(count))


def stream_end(num_samples: int | None) -> int | None:
    """Return the number of the first sample of a stream's split that a job with this `limit` does not take, or None."""
    return num_samples


def most_samples(num_samples: int | None, num_splits: int) -> int | None:
    """Return the largest number of samples that a job with this `limit` takes of all splits; None if it is unknown."""
    return None if num_samples is None else num_samples * num_splits


def limit(source: Source, num_samples: int) -> Source:
    """Return at most `num_samples` of each split, evenly spaced, so that sorted classes keep their proportions.

    Raises `CallError` for a limit below 1.
    """
    return _subset(source, num_samples, lambda total, count: np.arange(count) * total // max(count, 1))


def _subset(source: Source, num_samples: int, choose: Callable[[int, int], np.ndarray]) -> Source:
    """The samples that `choose` takes of each split, by indices of as many as it is told, of a total."""
    if num_samples < 1:
        raise CallError(f"limit {num_samples}; it must be at least 1")
    rows = {}
    for split in source.split_names:
        total = source.num_samples(split)
        rows[split] = (split, choose(total, min(num_samples, total)))
    return SubsetSource(source, rows)
