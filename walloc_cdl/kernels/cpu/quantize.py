"""Companding and rounding of latents in one step, by a search for the interval of a code.

Companding is monotonic, so latents can be compared with thresholds, the inverse companding of the borders between
codes, which is computed once (`code_search`). A table of equal cells has the code of each cell's lower edge, from
which the code of a latent is at most a step or two away.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.simd.vectors import WIDTH
from walloc_cdl.spec import code_limit, companded_limit, companding_scale

SEARCH_CELLS = 4096
"""Cells of the table that starts the search for a code; thresholds of 8 bits are at least two cells apart."""


@compiled()
def nearest_code(value: float, search: tuple) -> int:
    """Return the stored byte of a latent; `search` is the result of `code_search`."""
    thresholds, cells, lowest, cells_per_unit = search
    cell = min((value - lowest) * cells_per_unit, np.float32(cells.size - 1))
    code = cells[int(cell)] if cell > 0 else cells[0]  # NaN also gets the lowest code
    while value >= thresholds[code]:
        code += 1
    return code


@compiled()
def quantize_image(latents: np.ndarray, codes: np.ndarray, top: int, left: int, search: tuple) -> None:
    """Write the codes (K, h, w) of the latents (at least K, rows, pitch) from position (top, left) of a tile on."""
    for k in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            z, out = latents[k, top + y, left : left + codes.shape[2]], codes[k, y]
            for i in range(out.size):
                out[i] = nearest_code(z[i], search)


@compiled()
def quantize_sequence(latents: np.ndarray, own: int, codes: np.ndarray, search: tuple) -> None:
    """Write the codes (K, t) of latents (at least K, `own` + 1, 8), eight pieces of `own` positions, cut at t."""
    for k in range(codes.shape[0]):
        for piece in range(WIDTH):
            out = codes[k, piece * own : (piece + 1) * own]
            for i in range(out.size):
                out[i] = nearest_code(latents[k, i, piece], search)


class CompandedCodes:
    """Turns latents into the stored codes of companding with `bits` bits."""

    def __init__(self, bits: int) -> None:
        self._search = code_search(bits)

    def image(self, latents: np.ndarray, codes: np.ndarray, top: int, left: int) -> None:
        """See `quantize_image`."""
        quantize_image(latents, codes, top, left, self._search)

    def sequence(self, latents: np.ndarray, own: int, codes: np.ndarray) -> None:
        """See `quantize_sequence`."""
        quantize_sequence(latents, own, codes, self._search)


@lru_cache(maxsize=8)
def code_search(bits: int) -> tuple[np.ndarray, np.ndarray, np.float32, np.float32]:
    """Return the search for stored bytes: thresholds, table of initial bytes, lower end of the table, cells per unit.

    Byte b represents latents from threshold b - 1 to threshold b. A threshold is s √2 erf⁻¹((code + 1/2) / m), where
    the companded value is halfway between two codes (`walloc_cdl.spec` has the formula, s and m).
    """
    limit = code_limit(bits)
    normal = NormalDist(0, companding_scale(bits))
    halves = [normal.inv_cdf((code + 0.5) / (2 * companded_limit(bits)) + 0.5) for code in range(-limit, limit)]
    thresholds = np.full(
        256, np.nan, np.float32
    )  # NaN after the last threshold: no latent passes it, not even an infinite one
    thresholds[1 : 2 * limit + 1] = halves
    lowest = np.float32(halves[0])
    per_unit = np.float32((SEARCH_CELLS - 1) / (halves[-1] - halves[0]))
    # The byte of a cell is that of its lower edge, moved down by more than the rounding error of float32.
    edges = lowest + (np.arange(SEARCH_CELLS) - 0.01) / per_unit
    cells = 1 + np.searchsorted(thresholds[1 : 2 * limit + 1], edges.astype(np.float32), side="right")
    return thresholds, cells.astype(np.int64), lowest, per_unit
