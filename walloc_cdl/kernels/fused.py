"""From uint8 pixels to uint8 codes on the CPU in one go: the fast path of `encode`, compiled by numba.

For each channel of a tile: load into phases, lift along rows and columns, add to the K latents; at last look
up the code of each latent among the companding's thresholds. A tile's working set stays in the cache; memory
does not grow with the image.

Reference: `walloc_cdl.kernels.packets.packet_encode` followed by companding and rounding. Both compute in
float32, so that about one code in 100,000 falls on the other side of a half; none is off by more than one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np

from walloc_cdl.kernels.compiling import compiled
from walloc_cdl.kernels.filters import band_order
from walloc_cdl.kernels.lifting import STEPS, lift_columns, lift_rows, phase_of_band, scale_of_band
from walloc_cdl.spec import code_limit, companded_limit, companding_scale

REACH = 4
"""Latent positions that a code looks beyond its own: 4 (2^J - 1) samples a side are less than 4 · 2^J."""

TILE_POSITIONS = 64
"""Latent positions a side of an image's tile; larger signals are encoded tile by tile."""
LINE_POSITIONS = 4096
"""Latent positions of a tile of one dimension."""

LANES = 256
"""Positions mixed at a time: 8 bands and a latent of so many fit the first-level cache."""

SEARCH_CELLS = 4096
"""Cells of the table that begins the search for a code; the thresholds of 8 bits lie at least two apart."""


@compiled()
def _load_words(words: np.ndarray, phases: np.ndarray, offset: float, pitch: int) -> None:
    """uint8 pixels, the 2^levels of a block in one word (H, w), to phases: v - offset, exact in float32."""
    rows, num, _ = phases.shape
    for y in range(words.shape[0]):
        line = words[y]
        start = y // rows * pitch
        for phase in range(num):
            shift = np.uint64(8 * phase)
            target = phases[y % rows, phase, start : start + pitch]
            target[0] = target[pitch - 1] = 0
            inside = target[1 : 1 + line.size]
            for i in range(inside.size):
                inside[i] = np.float32(np.int32(np.uint64(line[i]) >> shift & np.uint64(255))) - np.float32(offset)


@compiled()
def _load_blocks(blocks: np.ndarray, phases: np.ndarray, offset: float, pitch: int) -> None:
    """Values of any type, (H, w, 2^levels), to phases: v - offset."""
    rows, num, _ = phases.shape
    for y in range(blocks.shape[0]):
        line = blocks[y]
        start = y // rows * pitch
        for phase in range(num):
            target = phases[y % rows, phase, start : start + pitch]
            target[0] = target[pitch - 1] = 0
            inside = target[1 : 1 + line.shape[0]]
            for i in range(inside.size):
                inside[i] = np.float32(line[i, phase]) - np.float32(offset)


@compiled(fastmath={"contract"})
def _mix(phases: np.ndarray, weight: np.ndarray, latents: np.ndarray) -> None:
    """latents (K, m) += weight (K, bands) · phases (bands, m), eight bands at a time to keep sums in registers."""
    bands, size = phases.shape
    whole = bands - bands % 8
    for first in range(0, size, LANES):
        end = min(first + LANES, size)
        for band in range(0, whole, 8):
            x0, x1 = phases[band, first:end], phases[band + 1, first:end]
            x2, x3 = phases[band + 2, first:end], phases[band + 3, first:end]
            x4, x5 = phases[band + 4, first:end], phases[band + 5, first:end]
            x6, x7 = phases[band + 6, first:end], phases[band + 7, first:end]
            for k in range(latents.shape[0]):
                z, w = latents[k, first:end], weight[k, band : band + 8]
                w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                for i in range(z.size):
                    z[i] += (w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]) + (
                        w4 * x4[i] + w5 * x5[i] + w6 * x6[i] + w7 * x7[i]
                    )
        for band in range(whole, bands):
            x = phases[band, first:end]
            for k in range(latents.shape[0]):
                z, w0 = latents[k, first:end], weight[k, band]
                for i in range(z.size):
                    z[i] += w0 * x[i]


@compiled()
def _lift_tile(phases: np.ndarray, pitch: int, levels: int, vertical: int, steps: np.ndarray) -> None:
    for row in range(phases.shape[0]):
        lift_rows(phases[row], pitch, levels, steps)
    if vertical:
        lift_columns(phases, pitch, vertical, steps)


@compiled()
def _quantize(latents: np.ndarray, codes: np.ndarray, top: int, left: int, pitch: int, search: tuple) -> None:
    """Codes (K, h, w) of the latents (K, rows · pitch) that begin at a tile's position (top, left)."""
    thresholds, cells, lowest, cells_per_unit = search
    for k in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            start = (top + y) * pitch + 1 + left
            z, out = latents[k, start : start + codes.shape[2]], codes[k, y]
            for i in range(out.size):
                value = z[i]
                cell = min((value - lowest) * cells_per_unit, np.float32(cells.size - 1))
                code = cells[int(cell)] if cell > 0 else cells[0]  # NaN, too, gets the lowest
                while value >= thresholds[code]:
                    code += 1
                out[i] = code


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


class FusedEncoder:
    """The encoding side of a codec with a linear encoder, for signals in the memory: pixels to stored codes.

    `weight` (K, C · bands) over bands in the published order and `bias` (K,) are those of the linear layer on
    pixels in [-0.5, 0.5]; `dimensions` is 2 for images and 1 for audio. Thread-safe.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray, *, levels: int, dimensions: int, bits: int) -> None:
        self.levels, self.vertical = levels, levels if dimensions == 2 else 0
        phases, scales = _layout(levels, dimensions)
        num_bands = len(phases)
        published = weight.astype(np.float64).reshape(len(weight), -1, num_bands)
        by_phase = np.empty_like(published)
        by_phase[:, :, phases] = published * scales
        self._weight = np.ascontiguousarray(by_phase.transpose(1, 0, 2), dtype=np.float32)
        self._byte_weight = np.ascontiguousarray(by_phase.transpose(1, 0, 2) / 255, dtype=np.float32)
        self._bias = np.asarray(bias, np.float32)
        self._search = code_search(bits)

    def encode(self, signal: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Stored codes uint8 (B, K, h, w) of uint8 or float pixels (B, C, H, W); (B, K, t) of (B, C, T).

        Sides are multiples of 2^levels. The same codes whatever the batch and the number of threads.
        """
        images = signal[:, :, None] if not self.vertical else signal
        batch, _, height, width = images.shape
        h, w = height >> self.vertical, width >> self.levels
        codes = np.empty((batch, len(self._bias), h, w), np.uint8)
        tiles = list(product(range(batch), _spans(h, self.vertical), _spans(w, self.levels, line=not self.vertical)))

        def encode_tile(tile: tuple[int, _Span, _Span]) -> None:
            number, rows, columns = tile
            part = _cut(images[number], rows.samples(self.vertical, height), columns.samples(self.levels, width))
            out = codes[number, :, rows.start : rows.stop, columns.start : columns.stop]
            self._encode_tile(part, out, rows.margin, columns.margin)

        if num_threads > 1 and len(tiles) > 1:
            with ThreadPoolExecutor(num_threads) as threads:
                list(threads.map(encode_tile, tiles))
        else:
            for tile in tiles:
                encode_tile(tile)
        return codes if self.vertical else codes[:, :, 0]

    def _encode_tile(self, part: np.ndarray, codes: np.ndarray, top: int, left: int) -> None:
        """Encode (C, H, W), taken for a ring, into the positions of `codes` (K, h, w) that begin at (top, left)."""
        rows, num = 1 << self.vertical, 1 << self.levels
        pitch = (part.shape[2] >> self.levels) + 2
        phases = np.empty((rows, num, (part.shape[1] >> self.vertical) * pitch), np.float32)
        latents = np.repeat(self._bias[:, None], phases.shape[2], 1)
        bytes_given = part.dtype == np.uint8
        weight = self._byte_weight if bytes_given else self._weight
        for channel in range(len(part)):
            if bytes_given and num <= 8:
                _load_words(part[channel].view(f"<u{num}"), phases, 127.5, pitch)
            else:
                blocks = part[channel].reshape(part.shape[1], -1, num)
                _load_blocks(blocks, phases, 127.5 if bytes_given else 0.0, pitch)
            _lift_tile(phases, pitch, self.levels, self.vertical, STEPS)
            _mix(phases.reshape(rows * num, -1), weight[channel], latents)
        _quantize(latents, codes, top, left, pitch, self._search)


def _layout(levels: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Phase and scale of every band in the published order."""
    phase, scale = phase_of_band(levels), scale_of_band(levels)
    if dimensions == 1:
        return phase, scale
    down, across = np.divmod(band_order(levels), 2**levels)
    return phase[down] * 2**levels + phase[across], scale[down] * scale[across]


@dataclass(frozen=True)
class _Span:
    """Latent positions `start` to `stop` of one axis, and how many more on each side a tile is given."""

    start: int
    stop: int
    margin: int

    def samples(self, levels: int, length: int) -> slice | np.ndarray:
        """What to take of an axis of so many samples: a slice where it does not wrap around."""
        first, end = (self.start - self.margin) << levels, (self.stop + self.margin) << levels
        return slice(first, end) if first >= 0 and end <= length else np.arange(first, end) % length


def _spans(positions: int, levels: int, *, line: bool = False) -> list[_Span]:
    """Tiles of an axis: one without margins if it is short, for the whole is a ring of itself."""
    most = LINE_POSITIONS if line else TILE_POSITIONS
    if positions <= most + 2 * REACH or not levels:
        return [_Span(0, positions, 0)]
    count = -(-positions // most)
    cuts = [positions * number // count for number in range(count + 1)]
    return [_Span(start, stop, REACH) for start, stop in pairwise(cuts)]


def _cut(image: np.ndarray, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
    """The part (C, H, W) of an image, contiguous, aligned to 8 bytes, of uint8 or float32."""
    part = image[:, rows][:, :, columns]
    part = np.ascontiguousarray(part, dtype=np.uint8 if part.dtype == np.uint8 else np.float32)
    return part if part.ctypes.data % 8 == 0 else part.copy()
