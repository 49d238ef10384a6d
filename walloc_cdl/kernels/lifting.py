"""The packet transform by lifting, in place, compiled by numba: four short steps a level instead of 57 taps.

bior4.4 is the CDF 9/7 wavelet, which factors into four lifting steps (Daubechies and Sweldens, 1998,
"Factoring wavelet transforms into lifting steps"), each adding c · (left + right neighbor) to every other
sample, and one scale for each half. A packet transform of J levels does so at distances 1, 2, …, 2^(J-1).

Samples are held as phases: array p holds samples p, p + 2^J, p + 2 · 2^J, … of a line. Then all neighbors lie
in other arrays at the same index, or one beside it where a line wraps around, so that every step is a loop
over contiguous memory. What is left in phase p after all levels is one band; `phase_of_band` says which, and
the scales, which are left out, go into the weights of what follows.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from walloc_cdl.kernels.compiling import compiled

STEPS = np.array([-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971], np.float32)
"""Daubechies and Sweldens' α, β, γ, δ: α and γ change odd samples, β and δ even ones."""

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


@compiled(fastmath={"contract"})
def _lift(target: np.ndarray, left: np.ndarray, right: np.ndarray, step: float) -> None:
    for i in range(target.size):
        target[i] += step * (left[i] + right[i])


@compiled()
def _wrap_right(line: np.ndarray, pitch: int) -> None:
    """Repeat the first sample of each row behind its last."""
    for row in range(line.size // pitch):
        line[(row + 1) * pitch - 1] = line[row * pitch + 1]


@compiled()
def _wrap_left(line: np.ndarray, pitch: int) -> None:
    """Repeat the last sample of each row before its first."""
    for row in range(line.size // pitch):
        line[row * pitch] = line[(row + 1) * pitch - 2]


@compiled(fastmath={"contract"})
def lift_rows(phases: np.ndarray, pitch: int, levels: int, steps: np.ndarray) -> None:
    """All levels along the rows of float32 phases (2^levels, rows · pitch), in place.

    A row has `pitch` - 2 samples, with one cell before and one behind them that are overwritten.
    """
    num = 1 << levels
    last = phases.shape[1] - 1
    for level in range(levels):
        distance = 1 << level
        for number in range(4):
            step = steps[number]
            for phase in range(num):
                if (phase >> level & 1) == (number & 1):
                    continue
                target = phases[phase]
                if phase < distance:
                    before = phases[phase - distance + num]
                    _wrap_left(before, pitch)
                    _lift(target[1:], before[:last], phases[phase + distance][1:], step)
                elif phase + distance >= num:
                    behind = phases[phase + distance - num]
                    _wrap_right(behind, pitch)
                    _lift(target[:last], phases[phase - distance][:last], behind[1:], step)
                else:
                    _lift(target, phases[phase - distance], phases[phase + distance], step)


@compiled(fastmath={"contract"})
def lift_columns(phases: np.ndarray, pitch: int, levels: int, steps: np.ndarray) -> None:
    """All levels across the rows of float32 phases (2^levels, …, rows · pitch), in place; rows close to a ring."""
    num = 1 << levels
    for inner in range(phases.shape[1]):
        size = phases.shape[2]
        for level in range(levels):
            distance = 1 << level
            for number in range(4):
                step = steps[number]
                for phase in range(num):
                    if (phase >> level & 1) == (number & 1):
                        continue
                    target = phases[phase, inner]
                    if phase < distance:
                        before, behind = phases[phase - distance + num, inner], phases[phase + distance, inner]
                        _lift(target[pitch:], before[: size - pitch], behind[pitch:], step)
                        _lift(target[:pitch], before[size - pitch :], behind[:pitch], step)
                    elif phase + distance >= num:
                        before, behind = phases[phase - distance, inner], phases[phase + distance - num, inner]
                        _lift(target[: size - pitch], before[: size - pitch], behind[pitch:], step)
                        _lift(target[size - pitch :], before[size - pitch :], behind[:pitch], step)
                    else:
                        _lift(target, phases[phase - distance, inner], phases[phase + distance, inner], step)
