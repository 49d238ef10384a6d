"""Gathers rows from several memory-mapped shards, without a Python step for each row or shard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class RowGatherer:
    """Gathers rows of arrays, numbered as if they were concatenated; each array is opened on first use.

    `open_array` returns array number i, contiguous uint8 (N, …); `starts` (arrays + 1,) holds the first row of each
    array and the number of all rows. Thread-safe if `open_array` is. Rows of which only the front is read have
    `pitch` bytes.

    Each row is copied once, directly to its destination. NumPy would need two `take`s, or index arrays,
    which are even slower; torch would wake a pool of threads for every array, which compete with the training thread.
    """

    def __init__(
        self, open_array: Callable[[int], np.ndarray], starts: np.ndarray, *, pitch: int | None = None
    ) -> None:
        self._open_array = open_array
        self._pitch = pitch
        self._starts = np.ascontiguousarray(starts, np.int64)
        self._addresses = np.zeros(len(starts) - 1, np.uint64)
        self._arrays: dict[int, np.ndarray] = {}

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, contiguous uint8 (B, …), with the front of `rows`, int64 (B,), which must be in range."""
        from walloc_cdl.kernels.cpu.rows import copy_rows  # importing numba takes half a second

        if not len(rows):
            return
        target, done = out.reshape(len(out), -1), 0
        pitch = self._pitch or target.shape[1]
        while (done := copy_rows(self._addresses, self._starts, rows, target, done, pitch)) < len(rows):
            number = int(np.searchsorted(self._starts, rows[done], side="right")) - 1
            # If two threads open the same array, both store the address of the one that is kept.
            array = self._arrays.setdefault(number, self._open_array(number))
            self._addresses[number] = array.ctypes.data
