"""Bit planes on the CPU: the functions of `walloc_cdl.planes.rows`, plain, and what is computed from rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walloc_cdl.planes.rows import pack_rows, unpack_rows

_CHUNK_ROWS = 256
"""Rows that are unpacked at a time, so that the codes stay small."""


def pack(codes: np.ndarray, planes: tuple[int, ...]) -> np.ndarray:
    """Return the rows, uint8 (N, R), of codes uint8 (N, K, *grid); see `pack_rows`."""
    return pack_rows(codes, planes)


def unpack(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R); see `unpack_rows`."""
    return unpack_rows(rows, planes, grid)


def unpack_values(rows: np.ndarray, table: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the values, float32 (N, K, *grid), of rows by a table, float32 (K, 256)."""
    codes = unpack_rows(rows, planes, grid)
    values = np.empty(codes.shape, np.float32)
    for channel in range(codes.shape[1]):
        values[:, channel] = table[channel][codes[:, channel]]
    return values


def row_histogram(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return how often each code occurs in each channel, int64 (K, 256), of rows, uint8 (N, at least R)."""
    num_channels = max(planes) + 1
    histogram = np.zeros((num_channels, 256), np.int64)
    for start in range(0, len(rows), _CHUNK_ROWS):
        codes = unpack_rows(rows[start : start + _CHUNK_ROWS], planes, grid)
        for channel in range(num_channels):
            histogram[channel] += np.bincount(codes[:, channel].reshape(-1), minlength=256)
    return histogram
