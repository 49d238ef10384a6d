"""The bior4.4 (CDF 9/7) wavelet as one banded matrix for all levels of a packet transform.

Every level of a packet transform splits all bands, so that J levels along one axis turn a signal of length n into 2^J
bands of length n / 2^J. All levels together are circular filters with stride 2^J (57 taps for J = 3). The transform of
an image applies one such matrix along each axis.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Cohen, Daubechies, Feauveau (1992), table 6.2, in the alignment and sign that PyWavelets 1.x calls
# bior4.4. Index 0 is the tap of the earliest sample.
LOWPASS = (
    0.03782845550726404,
    -0.023849465019556843,
    -0.11062440441843718,
    0.37740285561283066,
    0.8526986790088938,
    0.37740285561283066,
    -0.11062440441843718,
    -0.023849465019556843,
    0.03782845550726404,
)
HIGHPASS = (
    -0.06453888262869706,
    0.04068941760916406,
    0.41809227322161724,
    -0.7884856164055829,
    0.41809227322161724,
    0.04068941760916406,
    -0.06453888262869706,
)
# Sample of the first tap of output i, relative to 2i.
LOWPASS_START = -4
HIGHPASS_START = -2


def _one_level(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply one circular analysis level along axis 0; return the low and the high band, of half the length."""
    low = sum(tap * np.roll(signal, -(LOWPASS_START + i), axis=0)[::2] for i, tap in enumerate(LOWPASS))
    high = sum(tap * np.roll(signal, -(HIGHPASS_START + i), axis=0)[::2] for i, tap in enumerate(HIGHPASS))
    return low, high


@lru_cache(maxsize=8)
def analysis_matrix(length: int, levels: int) -> np.ndarray:
    """Return the circular transform of one axis, float64 (length, length): packet coefficients = matrix · signal.

    Row 2^levels · i + f is band f at position i, with bands in the order of the recursion (the first level is most
    significant). `length` must be a multiple of 2^levels; it may be shorter than the filters, which then wrap around
    several times.
    """
    bands = [np.eye(length)]
    for _ in range(levels):
        bands = [half for band in bands for half in _one_level(band)]
    return np.stack(bands, axis=1).reshape(length, length)


@lru_cache(maxsize=8)
def block_operator(levels: int, positions: int, *, inverse: bool = False) -> tuple[np.ndarray, int]:
    """Return the block of the (inverse) transform for `positions` latent positions, and its reach.

    The block is a float64 matrix (bands · positions, inputs), and the reach r is in samples: the inputs of the block
    start r samples before its output sample 0, and inputs = bands · positions + 2 r. The transform is the same for
    every block, because it is circular.
    """
    bands = 2**levels
    # Long enough that no filter overlaps with itself around the circle.
    length = bands * (16 + positions)
    matrix = analysis_matrix(length, levels)
    if inverse:
        matrix = np.linalg.inv(matrix)
    reach = bands * 6  # 57 taps around the middle reach less than 5 positions for levels 1 to 5
    start = bands * 8
    rows = matrix[start : start + bands * positions]
    block = rows[:, start - reach : start + bands * positions + reach].copy()
    assert np.abs(rows).sum() - np.abs(block).sum() < 1e-6, "filters reach further than the block"
    return block, reach


@lru_cache(maxsize=64)
def band_order(levels: int) -> np.ndarray:
    """Return the index (height band) · 2^levels + (width band) of each published band of an image, int64 (4^levels,).

    The published order combines both axes of a level, f = 2 · (band along the width) + (band along the height), with
    the first level most significant; the matrices combine all levels of one axis.
    """
    bands = 2**levels
    published = np.arange(4**levels)
    across, down = np.zeros_like(published), np.zeros_like(published)
    for level in range(levels):
        digit = published // 4 ** (levels - 1 - level) % 4
        across = 2 * across + digit // 2
        down = 2 * down + digit % 2
    return down * bands + across


@lru_cache(maxsize=8)
def band_energy(levels: int) -> np.ndarray:
    """Return the pixel energy of a unit coefficient of each band along one axis, float64 (2^levels,).

    bior4.4 is nearly orthonormal: the energies lie between 0.76 and 1.18 for three levels.
    """
    bands = 2**levels
    length = bands * 32
    inverse = np.linalg.inv(analysis_matrix(length, levels))
    middle = length // 2
    return (inverse[:, middle : middle + bands] ** 2).sum(axis=0)
