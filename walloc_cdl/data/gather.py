"""Collecting rows that lie in several memory-mapped shards, without a Python step for each row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def gather_rows(
    shard_codes: Callable[[int], np.ndarray],
    starts: np.ndarray,
    rows: np.ndarray,
    out: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """Fill `out` (B, …) with the rows numbered `rows` (B,) of shards laid end to end, in that order.

    `starts` (shards + 1,) holds each shard's first row, `shard_codes` gives a shard's array by number,
    `scratch` is as large as `out` and is overwritten. Rows must lie in 0 … starts[-1] - 1.

    Rows are collected shard by shard, then put in order: two copies by `take`, the second within the
    cache. Scattering each shard's rows right into `out` reads better and is slower, torch's `index_copy_`
    for bytes 20 times so. NumPy, because a `take` frees the interpreter and stays on its thread, where
    torch would wake a team of threads for every shard, against the one that trains.
    """
    if not len(rows):
        return
    numbers = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    local = rows[order] - starts[numbers]
    first = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    if len(first) == 1:
        # A stable sort of equal numbers has left the rows in their order.
        _take(shard_codes(int(numbers[0])), local, out)
        return
    for begin, end in zip(first, [*first[1:], len(rows)], strict=True):
        _take(shard_codes(int(numbers[begin])), local[begin:end], scratch[begin:end])
    place = np.empty_like(order)
    place[order] = np.arange(len(rows))
    _take(scratch, place, out)


def _take(source: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    # Rows are in range; `raise`, the default mode, would make NumPy go through a copy of `out`.
    np.take(source, rows, axis=0, out=out, mode="clip")
