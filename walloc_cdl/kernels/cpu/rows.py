"""Rows of bytes from several arrays to one: one copy of each, on the calling thread and without the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.compiling import compiled

PREFETCH_ROWS = 4
"""So many rows before its own turn the cache is told of a row: by themselves processors read on within a page only."""
PREFETCH_BYTES = 1024
"""Bytes between the lines that it is told of, from where it goes on by itself. With both, a thread copies a fifth to a
third more rows of 12 kB (844,000 a second in place of 611,000, medians of nine turns; AMD EPYC)."""

Generated = tuple[Any, Callable[..., Any]]
"""What numba wants of an intrinsic: its signature, and what writes its instructions."""


@intrinsic
def _copy_bytes(context: Any, target: Any, source: Any, count: Any) -> Generated:
    """memcpy from address to address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source, count = arguments
        pointers = [builder.inttoptr(address, cgutils.voidptr_t) for address in (target, source)]
        cgutils.raw_memcpy(builder, *pointers, count, 1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.int64), generate


@intrinsic
def _prefetch(context: Any, address: Any) -> Generated:
    """Have the cache read the line at an address, without waiting for it; harmless wherever that is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, keep, data = number(0), number(3), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], cgutils.voidptr_t), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uint64), generate


@compiled()
def _address(addresses: np.ndarray, starts: np.ndarray, row: int, size: int) -> int:
    """Where a row lies; 0 if its array has no address yet."""
    low, high = 0, starts.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if starts[middle] <= row:
            low = middle
        else:
            high = middle
    if addresses[low] == 0:
        return np.uint64(0)
    return addresses[low] + np.uint64(row - starts[low]) * np.uint64(size)


@compiled()
def copy_rows(addresses: np.ndarray, starts: np.ndarray, rows: np.ndarray, out: np.ndarray, first: int) -> int:
    """out[i] = row rows[i] of arrays of bytes that are laid end to end, for i from `first` on; out is uint8 (B, m).

    Array a begins at `addresses[a]`, uint64, in the memory and with row `starts[a]`, int64; behind the last start comes
    the number of rows. Nothing is checked, but for this: at the first row of an array whose address is 0 it ends.
    Returns the number of rows that are done. Reference: numpy's assignment by index arrays.
    """
    size = out.shape[1]
    for i in range(first, rows.size):
        if i + PREFETCH_ROWS < rows.size:
            later = _address(addresses, starts, rows[i + PREFETCH_ROWS], size)
            if later != 0:
                for place in range(0, size, PREFETCH_BYTES):
                    _prefetch(later + np.uint64(place))
        source = _address(addresses, starts, rows[i], size)
        if source == 0:
            return i
        _copy_bytes(np.uint64(out[i].ctypes.data), source, size)
    return rows.size
