"""Gathers rows of bytes from several arrays into one, with one copy, on the calling thread and without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.simd.loads import prefetch

PREFETCH_ROWS = 4
"""How many rows ahead a row is prefetched, since processors prefetch automatically only within a page."""
PREFETCH_BYTES = 1024
"""Bytes between prefetched cache lines, after which the processor continues automatically. With both, a thread copies a
fifth to a third more rows of 12 kB (844,000 per second instead of 611,000, medians of nine runs; AMD EPYC)."""

Generated = tuple[Any, Callable[..., Any]]
"""Result of an intrinsic for numba: its signature, and the function that emits its instructions."""


@intrinsic
def _copy_bytes(context: Any, target: Any, source: Any, count: Any) -> Generated:
    """Copy `count` bytes from address to address by memcpy."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source, count = arguments
        pointers = [builder.inttoptr(address, cgutils.voidptr_t) for address in (target, source)]
        cgutils.raw_memcpy(builder, *pointers, count, 1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.int64), generate


@compiled()
def _address(addresses: np.ndarray, starts: np.ndarray, row: int, pitch: int) -> int:
    """Return the address of a row; 0 if its array has no address yet."""
    low, high = 0, starts.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if starts[middle] <= row:
            low = middle
        else:
            high = middle
    if addresses[low] == 0:
        return np.uint64(0)
    return addresses[low] + np.uint64(row - starts[low]) * np.uint64(pitch)


@compiled()
def copy_rows(
    addresses: np.ndarray, starts: np.ndarray, rows: np.ndarray, out: np.ndarray, first: int, pitch: int
) -> int:
    """Set out[i] to the first m bytes of row rows[i] of the concatenation of several arrays of bytes, for i from
    `first` on; out is uint8 (B, m), and rows have `pitch` bytes.

    Array a is at address `addresses[a]`, uint64, and its first row is row `starts[a]`, int64, of the concatenation; the
    last entry of `starts` is the total number of rows. Arguments are not checked. The copy stops at the first row of an
    array whose address is 0. Returns the number of rows that are finished. Reference: numpy's assignment by index
    arrays.
    """
    size = out.shape[1]
    for i in range(first, rows.size):
        if i + PREFETCH_ROWS < rows.size:
            later = _address(addresses, starts, rows[i + PREFETCH_ROWS], pitch)
            if later != 0:
                for place in range(0, size, PREFETCH_BYTES):
                    prefetch(np.int64(later) + place)
        source = _address(addresses, starts, rows[i], pitch)
        if source == 0:
            return i
        _copy_bytes(np.uint64(out[i].ctypes.data), source, size)
    return rows.size
