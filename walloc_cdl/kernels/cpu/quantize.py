"""Companding and rounding of a latent at once: in which code's interval it lies.

Companding is monotonic, so that instead of applying it one may apply its inverse to the borders between codes, once
(`code_search`), and compare latents with these thresholds. A table of equal cells gives the code of a cell's lower
edge, from where at most a step or two lead to the latent's own.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.vectors import WIDTH
from walloc_cdl.spec import code_limit, companded_limit, companding_scale

SEARCH_CELLS = 4096
"""Cells of the table that begins the search for a code; the thresholds of 8 bits lie at least two apart."""


@compiled()
def nearest_code(value: float, search: tuple) -> int:
    """The stored byte of a latent; `search` is what `code_search` returns."""
    thresholds, cells, lowest, cells_per_unit = search
    cell = min((value - lowest) * cells_per_unit, np.float32(cells.size - 1))
    code = cells[int(cell)] if cell > 0 else cells[0]  # NaN, too, gets the lowest
    while value >= thresholds[code]:
        code += 1
    return code


@compiled()
def quantize_image(latents: np.ndarray, codes: np.ndarray, top: int, left: int, search: tuple) -> None:
    """Codes (K, h, w) of the latents (at least K, rows, pitch) that begin at a tile's position (top, left)."""
    for k in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            z, out = latents[k, top + y, left : left + codes.shape[2]], codes[k, y]
            for i in range(out.size):
                out[i] = nearest_code(z[i], search)


@compiled()
def quantize_sequence(latents: np.ndarray, own: int, codes: np.ndarray, search: tuple) -> None:
    """Codes (K, t) of the latents (at least K, `own` + 1, 8) of eight pieces of `own` positions, the last not full."""
    for k in range(codes.shape[0]):
        for piece in range(WIDTH):
            out = codes[k, piece * own : (piece + 1) * own]
            for i in range(out.size):
                out[i] = nearest_code(latents[k, i, piece], search)


@lru_cache(maxsize=8)
def code_search(bits: int) -> tuple[np.ndarray, np.ndarray, np.float32, np.float32]:
    """How a latent's stored byte is found: thresholds, a table of bytes to begin with, where it begins, its scale.

    Byte b stands for latents from threshold b - 1 to threshold b: s √2 erf⁻¹((code + 1/2) / m), where the
    companded value is halfway between two codes (`walloc_cdl.spec` has the formula and s and m).
    """
    limit = code_limit(bits)
    normal = NormalDist(0, companding_scale(bits))
    halves = [normal.inv_cdf((code + 0.5) / (2 * companded_limit(bits)) + 0.5) for code in range(-limit, limit)]
    thresholds = np.full(256, np.nan, np.float32)  # above the last no latent passes, not even an infinite one
    thresholds[1 : 2 * limit + 1] = halves
    lowest = np.float32(halves[0])
    per_unit = np.float32((SEARCH_CELLS - 1) / (halves[-1] - halves[0]))
    # A cell's byte is that of its lower edge, moved down by more than float32 can be wrong about it.
    edges = lowest + (np.arange(SEARCH_CELLS) - 0.01) / per_unit
    cells = 1 + np.searchsorted(thresholds[1 : 2 * limit + 1], edges.astype(np.float32), side="right")
    return thresholds, cells.astype(np.int64), lowest, per_unit
