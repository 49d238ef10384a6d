"""What a limit of samples means: the setting `limit` of a job, on sources and streams, and the function `limit`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datasets_prep.sources.core.source import Source
from datasets_prep.sources.core.splits import SubsetSource
from walloc_cdl.errors import CallError


def within_limit(source: Source, num_samples: int | None) -> Source:
    """What a job with this `limit` takes: the first samples of each split, in the source's order; None for all.

    Raises `CallError` for a limit below 1.
    """
    return source if num_samples is None else _subset(source, num_samples, lambda total, count: np.arange(count))


def stream_end(num_samples: int | None) -> int | None:
    """As `within_limit`, of a stream: the number of the first sample of a split that a job does not take, or None."""
    return num_samples


def most_samples(num_samples: int | None, num_splits: int) -> int | None:
    """What a job with this `limit` takes at most of all splits together; None where that is not known."""
    return None if num_samples is None else num_samples * num_splits


def limit(source: Source, num_samples: int) -> Source:
    """At most `num_samples` of each split, evenly spaced, so that classes in order keep their proportions.

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
