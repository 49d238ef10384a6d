"""The wavelet packet transform by lifting, compiled by numba: four short steps per level instead of 57 taps.

bior4.4 is the CDF 9/7 wavelet, which factors into four lifting steps and a scale for each band (Daubechies and
Sweldens, 1998); `simd.lifting` has the steps of one level. A packet transform of J levels splits every band again,
low and high. Since lifting leaves the low band in the even samples of its line and the high band in the odd ones, the
bands of the next level are lines of every second sample, and so on: level l lifts 2^l interleaved lines, each of
samples 2^l apart, and no samples are reordered.

**Phases.** Samples are held as polyphase components, here *phases*: array p holds samples p, p + 2^J, p + 2 · 2^J, … of
a line, at its *positions* 0, 1, 2, …, which are those of the latent grid. The neighbor at a distance of 2^l in a line
is then the phase p + 2^l at the same position, or, after the last phase, one of the first at the next position. The
phases of one of the 2^l lines of level l are first, first + 2^l, first + 2 · 2^l, …, with `first` below 2^l. After all
levels, phase p holds one band: bit l of p is 0 for the low band of level l, and 1 for the high band. `phase_of_band`
returns the phase of each band, and `scale_of_band` the product of the scales of its levels, which is multiplied into
the weights of the linear layer that follows.

**Lanes.** Eight lines lie side by side, one in each lane of a vector, so that a buffer is (2^J phases, positions, 8).
For the rows of an image the eight lines are eight rows, for its columns eight columns, for audio eight pieces of the
signal (`fused`).

**Levels.** A level is one pass over the lines, with all four steps, from one buffer to another, and the next level goes
back. It costs two additions and two multiply-adds per sample.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.simd.lifting import lift_eight, lift_eights, lift_four, lift_two

ZETA = 1.1496043988602418
LOW_SCALE, HIGH_SCALE = ZETA, -1 / ZETA
"""Factors from the lifted halves to the bands of bior4.4; PyWavelets gives the high band a minus sign."""


@lru_cache(maxsize=8)
def phase_of_band(levels: int) -> np.ndarray:
    """Return the phase that holds each band, int64 (2^levels,), bands numbered as in `filters.analysis_matrix`.

    The first level decides a band's most significant digit and a phase's least significant one.
    """
    bands = np.arange(2**levels)
    digits = bands[:, None] >> np.arange(levels) & 1
    return (digits * 2 ** np.arange(levels)[::-1]).sum(1)


@lru_cache(maxsize=8)
def scale_of_band(levels: int) -> np.ndarray:
    """Return the factor for the lifted phase of each band, float64 (2^levels,)."""
    num_high = np.array([band.bit_count() for band in range(2**levels)])
    return LOW_SCALE ** (levels - num_high) * HIGH_SCALE**num_high


@compiled()
def address_of(array: np.ndarray) -> int:
    """Return the address of the first value of an array as an integer."""
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
    """Lift one level of eight periodic lines of `height` positions, each of `num` = 2^J phases.

    `source` and `target` are addresses of phase 0 at the first position, and must not overlap; phases are `stride`
    bytes apart, and positions `line` bytes.
    """
    # The samples of a line of this level are `distance` phases apart, so `count` of them lie at each position.
    distance, count = 1 << level, num >> level
    step, target_step = stride * distance, target_stride * distance
    for first in range(distance):  # one line for each band of the previous levels
        begin, end = source + first * stride, target + first * target_stride
        if count == 2:
            lift_two(begin, step, line, end, target_step, target_line, height, 1)
        elif count == 4:
            lift_four(begin, step, line, end, target_step, target_line, height, 1)
        elif count == 8:
            lift_eight(begin, step, line, end, target_step, target_line, height, 1)
        else:
            lift_eights(begin, step, line, end, target_step, target_line, height, count >> 3)


@compiled()
def lift_levels(buffers: np.ndarray, height: int, first_level: int) -> int:
    """Lift all levels from `first_level` on, alternating between two buffers (2, 2^J phases, positions, 8).

    Level l reads buffer l mod 2. Returns the index of the buffer that holds all bands.
    """
    num, stride, line = buffers.shape[1], buffers.strides[1], buffers.strides[2]
    level = first_level
    while 1 << level < num:
        begin, end = address_of(buffers[level % 2]), address_of(buffers[(level + 1) % 2])
        lift_level(begin, stride, line, end, stride, line, num, height, level)
        level += 1
    return level % 2
