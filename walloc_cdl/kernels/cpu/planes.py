"""Packing and unpacking of bit planes on the CPU, and unpacking straight to the values of the codes.

Reference: `walloc_cdl.planes.rows`, which describes a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walloc_cdl.planes.rows import pack_rows, unpack_rows


def pack(codes: np.ndarray, planes: tuple[int, ...]) -> np.ndarray:
    """Return the rows, uint8 (N, R), of codes uint8 (N, K, …) of 0 to 2^b - 1."""
    return pack_rows(codes, planes)


def unpack(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R)."""
    return unpack_rows(rows, planes, grid)


def unpack_values(rows: np.ndarray, table: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the values, float32 (N, K, *grid), of rows uint8 (N, at least R); `table` is float32 (K, 256)."""
    codes = unpack(rows, planes, grid)
    values = np.empty(codes.shape, np.float32)
    for channel in range(codes.shape[1]):
        values[:, channel] = table[channel][codes[:, channel]]
    return values


def row_histogram(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return how often each byte is a code of each channel, int64 (K, 256), in rows uint8 (N, at least R)."""
    codes = unpack(rows, planes, grid)
    return np.stack([np.bincount(codes[:, channel].reshape(-1), minlength=256) for channel in range(codes.shape[1])])
