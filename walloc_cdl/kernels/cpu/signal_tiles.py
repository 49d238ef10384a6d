"""Division of a signal into tiles for the CPU encoder: intervals of latent positions, and their margins.

`fused` explains why there are tiles and margins.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from walloc_cdl.kernels.cpu.simd.vectors import WIDTH

REACH = 4
"""Margin of a tile: latent positions to each side that a code depends on. The low-pass filter has 9 taps, four to each
side; over J levels, whose samples are 1, 2, 4, … apart, these are 4 (2^J - 1) samples, less than 4 · 2^J."""


@dataclass(frozen=True)
class Span:
    """Latent positions `start` to `stop` of one axis, and the margin of the tile on each side."""

    start: int
    stop: int
    margin: int

    def samples(self, num: int, length: int) -> slice | np.ndarray:
        """Return the index of the tile and its margin on an axis of `length` samples, `num` per position.

        It is a slice unless the margin wraps around.
        """
        first, end = (self.start - self.margin) * num, (self.stop + self.margin) * num
        return slice(first, end) if first >= 0 and end <= length else np.arange(first, end) % length


def tile_spans(positions: int, max_positions: int) -> list[Span]:
    """Return the tiles of an axis; a short axis, which is periodic as a whole, is a single tile without margins."""
    if positions <= max_positions + 2 * REACH:
        return [Span(0, positions, 0)]
    count = -(-positions // max_positions)
    cuts = [positions * number // count for number in range(count + 1)]
    return [Span(start, stop, REACH) for start, stop in pairwise(cuts)]


def piece_spans(positions: int, max_positions: int) -> list[Span]:
    """Return tiles of eight pieces of equal length, at most `max_positions`; the last tile wraps around the end."""
    count = -(-positions // (WIDTH * max_positions))
    size = -(-positions // (WIDTH * count)) * WIDTH
    return [Span(start, start + size, REACH) for start in range(0, positions, size)]


def cut_part(image: np.ndarray, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
    """Return a contiguous part (C, H, W) of an image, uint8, or float32 for all other types."""
    if isinstance(rows, slice):
        part = image[:, rows][:, :, columns]
    elif isinstance(columns, slice):
        part = image[:, :, columns][:, rows]  # columns first, since indexing the rows copies them
    else:
        part = image[:, rows[:, None], columns]
    return np.ascontiguousarray(part, dtype=np.uint8 if part.dtype == np.uint8 else np.float32)
