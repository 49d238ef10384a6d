"""Collecting rows that lie in several memory-mapped shards, without a Python step for each row or shard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class RowGatherer:
    """Collects rows of arrays that are thought laid end to end, each opened when a row of it is first asked for.

    `open_array` gives an array, contiguous uint8 (N, …), by number; `starts` (arrays + 1,) holds each one's first row
    and the number of rows. Thread-safe if `open_array` is.

    Each row is copied once, from its array to its place. NumPy can do so by two `take`s only, or by index arrays,
    which are slower still; torch would wake a team of threads for every array, against the one that trains.
    """

    def __init__(self, open_array: Callable[[int], np.ndarray], starts: np.ndarray) -> None:
        self._open_array = open_array
        self._starts = np.ascontiguousarray(starts, np.int64)
        self._addresses = np.zeros(len(starts) - 1, np.uint64)
        self._arrays: dict[int, np.ndarray] = {}

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, contiguous uint8 (B, …), with the rows of these numbers, int64 (B,), which must be in range."""
        from walloc_cdl.kernels.cpu.rows import copy_rows  # numba takes half a second, for which opening need not wait

        if not len(rows):
            return
        target, done = out.reshape(len(out), -1), 0
        while (done := copy_rows(self._addresses, self._starts, rows, target, done)) < len(rows):
            number = int(np.searchsorted(self._starts, rows[done], side="right")) - 1
            # Two threads may open the same array: the one that is kept is the one whose address is.
            array = self._arrays.setdefault(number, self._open_array(number))
            self._addresses[number] = array.ctypes.data
