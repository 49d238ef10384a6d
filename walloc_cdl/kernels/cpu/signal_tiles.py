"""How a signal is cut into tiles for the CPU's encoder: intervals of latent positions, and their margins.

`fused` says why there are tiles and margins.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from walloc_cdl.kernels.cpu.vectors import WIDTH

REACH = 4
"""The margin of a tile: latent positions that a code looks beyond its own. The low-pass filter has 9 taps, four to each
side; over J levels, whose samples are 1, 2, 4, … apart, these are 4 (2^J - 1) samples, less than 4 · 2^J."""


@dataclass(frozen=True)
class Span:
    """Latent positions `start` to `stop` of one axis, and how many more on each side a tile is given."""

    start: int
    stop: int
    margin: int

    def samples(self, num: int, length: int) -> slice | np.ndarray:
        """What to take of an axis of so many samples, `num` a position: a slice where it does not wrap around."""
        first, end = (self.start - self.margin) * num, (self.stop + self.margin) * num
        return slice(first, end) if first >= 0 and end <= length else np.arange(first, end) % length


def tile_spans(positions: int, most: int) -> list[Span]:
    """Tiles of an axis: a single one without margins if it is short, since the whole is periodic by itself."""
    if positions <= most + 2 * REACH:
        return [Span(0, positions, 0)]
    count = -(-positions // most)
    cuts = [positions * number // count for number in range(count + 1)]
    return [Span(start, stop, REACH) for start, stop in pairwise(cuts)]


def piece_spans(positions: int, most: int) -> list[Span]:
    """Tiles of eight pieces, all of the same length, at most so many positions; the last goes on beyond the end, that
    is, at the beginning."""
    count = -(-positions // (WIDTH * most))
    size = -(-positions // (WIDTH * count)) * WIDTH
    return [Span(start, start + size, REACH) for start in range(0, positions, size)]


def cut_part(image: np.ndarray, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
    """The part (C, H, W) of an image, contiguous, of uint8, or of float32 for all other types."""
    if isinstance(rows, slice):
        part = image[:, rows][:, :, columns]
    elif isinstance(columns, slice):
        part = image[:, :, columns][:, rows]  # columns first, since these rows are copied
    else:
        part = image[:, rows[:, None], columns]
    return np.ascontiguousarray(part, dtype=np.uint8 if part.dtype == np.uint8 else np.float32)
