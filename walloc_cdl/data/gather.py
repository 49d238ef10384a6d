"""Collecting rows that lie in several memory-mapped shards, without a Python step for each row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def gather_rows(
    shard_codes: Callable[[int], np.ndarray], starts: np.ndarray, rows: np.ndarray, out: np.ndarray
) -> None:
    """Fill `out` (B, …) with the rows numbered `rows` (B,) of shards laid end to end, in that order.

    `starts` (shards + 1,) holds each shard's first row, `shard_codes` gives a shard's array by number. All are
    contiguous uint8; rows must lie in 0 … starts[-1] - 1.

    Each row is copied once, from its shard to its place. NumPy can do so by two `take`s only, or by index arrays,
    which are slower still; torch would wake a team of threads for every shard, against the one that trains.
    """
    if not len(rows):
        return
    from walloc_cdl.kernels.rows import copy_rows  # numba takes half a second, for which opening need not wait

    numbers = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    local = rows[order] - starts[numbers]
    first = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    target = out.reshape(len(out), -1)
    for begin, end in zip(first, [*first[1:], len(rows)], strict=True):
        codes = shard_codes(int(numbers[begin]))
        copy_rows(codes.reshape(len(codes), -1), local[begin:end], order[begin:end], target)
