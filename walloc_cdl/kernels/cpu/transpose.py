"""Transposition of bytes, in blocks of 8 × 8 as 64-bit words.

A word holds eight bytes of a row, and eight words hold a block of 8 × 8 (Warren, "Hacker's Delight", section 7-3, uses
this method for bits). The block is transposed in three rounds: the two sub-blocks off the diagonal are exchanged at
every size, 1, 2 and 4 bytes. An exchange concerns pairs of words, and takes six operations on integers instead of
shuffles, which numba cannot express.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from walloc_cdl.kernels.cpu.compiling import compiled

# The lower group of each pair of groups of 1, 2 and 4 bytes, and the number of bits in a group.
_MASKS = tuple(np.uint64(mask) for mask in (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF))
_SHIFTS = tuple(np.uint64(shift) for shift in (8, 16, 32))


@njit(inline="always")
def _swap(a: np.uint64, b: np.uint64, step: int) -> tuple[np.uint64, np.uint64]:
    """Exchange the upper group of bytes of every pair of groups in `a` with the lower one of the same pair in `b`.

    Groups are of 1, 2 or 4 bytes, by `step` 0, 1 or 2.
    """
    # `moved` has the bits in which the two differ; exclusive or with it gives each the value of the other.
    moved = ((a >> _SHIFTS[step]) ^ b) & _MASKS[step]
    return a ^ (moved << _SHIFTS[step]), b ^ moved


@compiled()
def transpose_bytes(words: np.ndarray, first: int, out: np.ndarray) -> None:
    """Transpose bytes (8n, 8m), which are m words of each row of `words` (8n, …) from `first` on, little-endian uint64,
    to bytes (8m, 8n), the words of `out` (8m, n).
    """
    for q in range(out.shape[1]):
        w0, w1, w2, w3 = words[8 * q], words[8 * q + 1], words[8 * q + 2], words[8 * q + 3]
        w4, w5, w6, w7 = words[8 * q + 4], words[8 * q + 5], words[8 * q + 6], words[8 * q + 7]
        for j in range(out.shape[0] // 8):
            i = first + j
            # Sub-blocks of 1 × 1 within those of 2 × 2: words that are neighbors.
            a0, a1 = _swap(w0[i], w1[i], 0)
            a2, a3 = _swap(w2[i], w3[i], 0)
            a4, a5 = _swap(w4[i], w5[i], 0)
            a6, a7 = _swap(w6[i], w7[i], 0)
            # Sub-blocks of 2 × 2 within those of 4 × 4: words that are two apart.
            a0, a2 = _swap(a0, a2, 1)
            a1, a3 = _swap(a1, a3, 1)
            a4, a6 = _swap(a4, a6, 1)
            a5, a7 = _swap(a5, a7, 1)
            # The sub-blocks of 4 × 4: words that are four apart. Word k is then column k of the block.
            a0, a4 = _swap(a0, a4, 2)
            a1, a5 = _swap(a1, a5, 2)
            a2, a6 = _swap(a2, a6, 2)
            a3, a7 = _swap(a3, a7, 2)
            out[8 * j, q], out[8 * j + 1, q], out[8 * j + 2, q], out[8 * j + 3, q] = a0, a1, a2, a3
            out[8 * j + 4, q], out[8 * j + 5, q], out[8 * j + 6, q], out[8 * j + 7, q] = a4, a5, a6, a7
