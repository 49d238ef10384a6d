"""Rows of bytes from here to there, one copy of each, on the calling thread and without the interpreter."""

from __future__ import annotations

import numpy as np

from walloc_cdl.kernels.compiling import compiled


@compiled()
def copy_rows(source: np.ndarray, rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """out[places[i]] = source[rows[i]] for uint8 (N, m) and (B, m); nothing is checked.

    Reference: numpy's assignment by index arrays.
    """
    for i in range(rows.size):
        line, target = source[rows[i]], out[places[i]]
        for j in range(line.size):  # which the compiler makes a call of memcpy
            target[j] = line[j]
