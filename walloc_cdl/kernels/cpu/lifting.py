"""The packet transform by lifting, compiled by numba: four short steps a level instead of 57 taps.

bior4.4 is the CDF 9/7 wavelet, which factors into four lifting steps (Daubechies and Sweldens, 1998,
"Factoring wavelet transforms into lifting steps"), each adding c · (left + right neighbor) to every other
sample, and one scale for each half. A packet transform of J levels does so at distances 1, 2, …, 2^(J-1).

Samples are held as phases: array p holds samples p, p + 2^J, p + 2 · 2^J, … of a line, at its positions 0, 1, 2, ….
What is left in phase p after all levels is one band; `phase_of_band` says which, and the scales, which are left out, go
into the weights of what follows. Eight lines lie side by side, one in each place of a vector; a level goes down them
once, all four steps together, from one buffer to another.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.vectors import down_eight, down_eights, down_four, down_two

LOW_SCALE, HIGH_SCALE = 1.1496043988602418, -0.8698644516247808
"""What turns the lifted halves into bior4.4's bands."""


@lru_cache(maxsize=8)
def phase_of_band(levels: int) -> np.ndarray:
    """int64 (2^levels,): the phase that holds each band, bands numbered as in `filters.analysis_matrix`.

    The first level decides a band's most significant digit and a phase's least significant one.
    """
    bands = np.arange(2**levels)
    digits = bands[:, None] >> np.arange(levels) & 1
    return (digits * 2 ** np.arange(levels)[::-1]).sum(1)


@lru_cache(maxsize=8)
def scale_of_band(levels: int) -> np.ndarray:
    """float64 (2^levels,): what the lifted phase of each band must be multiplied by."""
    num_high = np.array([band.bit_count() for band in range(2**levels)])
    return LOW_SCALE ** (levels - num_high) * HIGH_SCALE**num_high


@compiled()
def address_of(array: np.ndarray) -> int:
    """Of an array's first value, as a number that may be added to."""
    return np.int64(array.ctypes.data)


@compiled()
def lift_level(
    source: int,
    stride: int,
    line: int,
    target: int,
    target_stride: int,
    target_line: int,
    num: int,
    height: int,
    level: int,
) -> None:
    """One level of eight lines, each a ring of `height` positions of `num` = 2^J phases.

    `source` and `target` are addresses of phase 0 at the first position; from phase to phase it is `stride` bytes, from
    position to position `line`.
    """
    distance, count = 1 << level, num >> level
    step, target_step = stride * distance, target_stride * distance
    for first in range(distance):
        begin, end = source + first * stride, target + first * target_stride
        if count == 2:
            down_two(begin, step, line, end, target_step, target_line, height, 1)
        elif count == 4:
            down_four(begin, step, line, end, target_step, target_line, height, 1)
        elif count == 8:
            down_eight(begin, step, line, end, target_step, target_line, height, 1)
        else:
            down_eights(begin, step, line, end, target_step, target_line, height, count >> 3)


@compiled()
def lift_buffers(buffers: np.ndarray, height: int, first_level: int) -> int:
    """The levels from `first_level` on, from one of two buffers (2, 2^J phases, positions, 8) to the other and back.

    Level l begins in buffer l mod 2. Returns the number of the buffer that holds all bands.
    """
    num, stride, line = buffers.shape[1], buffers.strides[1], buffers.strides[2]
    level = first_level
    while 1 << level < num:
        begin, end = address_of(buffers[level % 2]), address_of(buffers[(level + 1) % 2])
        lift_level(begin, stride, line, end, stride, line, num, height, level)
        level += 1
    return level % 2
