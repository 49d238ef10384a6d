"""From uint8 pixels to uint8 codes on the CPU in one go: the fast path of `encode`, compiled by numba.

For each channel of a tile: load into phases, lift along rows and columns, add to the K latents; at last look
up the code of each latent among the companding's thresholds. A tile's working set stays in the cache; memory
does not grow with the image.

Reference: `walloc_cdl.kernels.packets.packet_encode` followed by companding and rounding. Both compute in
float32, so that about one code in 100,000 falls on the other side of a half; none is off by more than one.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.lifting import address_of, lift_buffers, lift_level, phase_of_band, scale_of_band
from walloc_cdl.kernels.cpu.vectors import (
    MIXED,
    VECTOR_BYTES,
    WIDTH,
    load_eight,
    load_four,
    load_two,
    mix_block,
    transpose_8x8,
)
from walloc_cdl.kernels.filters import band_order
from walloc_cdl.spec import code_limit, companded_limit, companding_scale

REACH = 4
"""Latent positions that a code looks beyond its own: 4 (2^J - 1) samples a side are less than 4 · 2^J."""

TILE_SAMPLES = 512
"""A side of an image's tile: what is computed for a tile lies in the second-level cache."""
LINE_SAMPLES = 2**12
"""The length of each of the eight pieces of a tile of one dimension."""
FEWEST_POSITIONS = 32
"""Of a tile's side or a piece, however many samples these are: beside them it has `REACH` on both sides."""

VALUES_OF_UNIT = {"u": 255, "i": 65536, "f": 1}
"""What a signal's values are divided by, by the kind of its type: uint8, int16, float."""

SEARCH_CELLS = 4096
"""Cells of the table that begins the search for a code; the thresholds of 8 bits lie at least two apart."""


@compiled()
def _load_lines(samples: np.ndarray, step: int, positions: int, lines: np.ndarray) -> None:
    """Eight lines of uint8 or float32 to phases (2^levels, at least `positions`, 8).

    Line l begins l · `step` samples behind the first of `samples`, which go on without gaps for as long as lines do.
    Bytes become v - 127.5, which is exact.
    """
    num, size, stride = lines.shape[0], samples.itemsize, lines.strides[0]
    for position in range(positions):
        place = address_of(samples) + position * num * size
        target = address_of(lines) + position * VECTOR_BYTES
        if size == 1:
            if num == 2:
                load_two(place, step, target, stride)
            elif num == 4:
                load_four(place, step, target, stride)
            else:
                for phase in range(0, num, WIDTH):
                    load_eight(place + phase, step, target + phase * stride, stride)
        elif num >= WIDTH:
            for phase in range(0, num, WIDTH):
                transpose_8x8(place + 4 * phase, 4 * step, target + phase * stride, stride)
        else:
            for phase in range(num):
                for number in range(WIDTH):
                    lines[phase, position, number] = samples[number * step + position * num + phase]


@compiled()
def _add_image(
    pixels: np.ndarray,
    weight: np.ndarray,
    latents: np.ndarray,
    phases: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> None:
    """Add to the latents (K, h + 1, pitch) what pixels (C, H, W) make, each row and column of them being a ring.

    `weight` is (C, phases across, phases down, K), K a multiple of `MIXED`. Overwritten are `phases` (down, across, h,
    pitch) and the buffers (2, 2^levels, positions, 8) of rows and columns. H is at least eight times 2^levels.
    """
    num, height = phases.shape[0], phases.shape[2]
    width = pixels.shape[2]
    positions, pitch = width // num, latents.strides[1]
    for channel in range(pixels.shape[0]):
        samples = pixels[channel].reshape(-1)
        for start in range(0, height, WIDTH):
            top = min(start, height - WIDTH)  # the last eight may be some of those before
            for down in range(num):
                _load_lines(samples[(top * num + down) * width :], num * width, positions, rows[0])
                last = rows[lift_buffers(rows, positions, 0)]
                for across in range(num):
                    out = phases[down, across]
                    for left in range(0, positions, WIDTH):
                        place = address_of(out) + top * out.strides[0] + 4 * left
                        transpose_8x8(address_of(last[across, left:]), VECTOR_BYTES, place, out.strides[0])
        for left in range(0, positions, WIDTH):
            for across in range(num):
                plane = phases[:, across]
                begin, end = address_of(plane) + 4 * left, address_of(columns[1])
                stride, line = columns.strides[1], columns.strides[2]
                lift_level(begin, plane.strides[0], plane.strides[1], end, stride, line, num, height, 0)
                last = columns[lift_buffers(columns, height, 1)]
                _mix(
                    last, 0, height, weight[channel, across], address_of(latents) + 4 * left, latents.strides[0], pitch
                )


@compiled()
def _add_line(samples: np.ndarray, weight: np.ndarray, latents: np.ndarray, buffers: np.ndarray) -> None:
    """The same of one dimension, cut in eight pieces side by side: latents (K, n + 1, 8) of samples (C, T).

    T is 8 n + 2 · `REACH` positions; `weight` is (C, phases, K), `buffers` (2, phases, n + 2 · `REACH`, 8).
    """
    num, positions = buffers.shape[1], buffers.shape[2]
    own = positions - 2 * REACH
    for channel in range(samples.shape[0]):
        _load_lines(samples[channel], own * num, positions, buffers[0])
        last = buffers[lift_buffers(buffers, positions, 0)]
        _mix(last, REACH, own, weight[channel], address_of(latents), latents.strides[0], VECTOR_BYTES)


@compiled()
def _mix(
    bands: np.ndarray, first: int, height: int, weight: np.ndarray, target: int, latent_stride: int, line: int
) -> None:
    """Add what `weight` (bands, K) makes of bands (bands, positions, 8), at `height` positions from `first` on.

    `target` is the address of the first latent's vector for the first of them, `line` bytes before the next one's. They
    come two at a time, so there must be one more of each than `height` if that is odd.
    """
    for latent in range(0, weight.shape[1], MIXED):
        for position in range(0, height, 2):
            mix_block(
                address_of(bands) + (first + position) * VECTOR_BYTES,
                bands.strides[0],
                weight.shape[0],
                address_of(weight) + 4 * latent,
                weight.strides[0],
                target + latent * latent_stride + position * line,
                latent_stride,
                line,
            )


@compiled()
def _code(value: float, search: tuple) -> int:
    """The stored byte of a latent."""
    thresholds, cells, lowest, cells_per_unit = search
    cell = min((value - lowest) * cells_per_unit, np.float32(cells.size - 1))
    code = cells[int(cell)] if cell > 0 else cells[0]  # NaN, too, gets the lowest
    while value >= thresholds[code]:
        code += 1
    return code


@compiled()
def _quantize_image(latents: np.ndarray, codes: np.ndarray, top: int, left: int, search: tuple) -> None:
    """Codes (K, h, w) of the latents (at least K, rows, pitch) that begin at a tile's position (top, left)."""
    for k in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            z, out = latents[k, top + y, left : left + codes.shape[2]], codes[k, y]
            for i in range(out.size):
                out[i] = _code(z[i], search)


@compiled()
def _quantize_line(latents: np.ndarray, own: int, codes: np.ndarray, search: tuple) -> None:
    """Codes (K, t) of the latents (at least K, `own` + 1, 8) of eight pieces of `own` positions, the last not full."""
    for k in range(codes.shape[0]):
        for piece in range(WIDTH):
            out = codes[k, piece * own : (piece + 1) * own]
            for i in range(out.size):
                out[i] = _code(latents[k, i, piece], search)


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
        by_phase = np.zeros((-(-len(weight) // MIXED) * MIXED, *published.shape[1:]))
        by_phase[: len(weight), :, phases] = published * scales
        across = 2**levels if dimensions == 2 else 1
        by_phase = by_phase.reshape(*by_phase.shape[:2], -1, across).transpose(1, 3, 2, 0)
        self._weights = {
            kind: np.ascontiguousarray(by_phase / values, dtype=np.float32) for kind, values in VALUES_OF_UNIT.items()
        }
        self._bias = np.asarray(bias, np.float32)
        self._search = code_search(bits)

    def encode(self, signal: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Stored codes uint8 (B, K, h, w) of uint8 or float pixels (B, C, H, W); (B, K, t) of int16 or float (B, C, T).

        Sides are multiples of 2^levels. The same codes whatever the batch and the number of threads.
        """
        sides = [length >> self.levels for length in signal.shape[2:]]
        codes = np.empty((len(signal), len(self._bias), *sides), np.uint8)
        most = max((TILE_SAMPLES if self.vertical else LINE_SAMPLES) >> self.levels, FEWEST_POSITIONS)
        if self.vertical:
            encode, tiles = self._encode_tile, list(product(*(_spans(side, most) for side in sides)))
        else:
            encode, tiles = self._encode_line, [(span,) for span in _line_spans(sides[0], most)]
        calls = [(signal[number], codes[number], *tile) for number in range(len(signal)) for tile in tiles]
        if num_threads > 1 and len(calls) > 1:
            with ThreadPoolExecutor(num_threads) as threads:
                list(threads.map(lambda call: encode(*call), calls))
        else:
            for call in calls:
                encode(*call)
        return codes

    def _encode_tile(self, image: np.ndarray, codes: np.ndarray, rows: _Span, columns: _Span) -> None:
        """Encode a tile of an image (C, H, W) into its part of codes (K, h, w)."""
        num = 1 << self.levels
        part = _cut(image, rows.samples(num, image.shape[1]), columns.samples(num, image.shape[2]))
        repeats = -(-WIDTH * num // part.shape[1])
        if repeats > 1:  # fewer rows than a vector holds: a ring of several turns is the same
            part = np.tile(part, (1, repeats, 1))
        height, width = part.shape[1] // num, part.shape[2] // num
        pitch = -(-width // (2 * WIDTH)) * 2 * WIDTH
        latents = self._latents(height + 1, pitch)
        phases = _scratch("phases", num, num + 1, height, pitch)[:, :num]  # apart by no power of two
        buffers = (_scratch(name, 2, num, size + 1, WIDTH) for name, size in (("rows", pitch), ("columns", height)))
        _add_image(part, self._weights[image.dtype.kind], latents, phases, *buffers)
        own = codes[:, rows.start : rows.stop, columns.start : columns.stop]
        _quantize_image(latents, own, rows.margin, columns.margin, self._search)

    def _encode_line(self, line: np.ndarray, codes: np.ndarray, span: _Span) -> None:
        """Encode eight pieces of a signal (C, T) into their part of codes (K, t)."""
        num, total = 1 << self.levels, codes.shape[1]
        positions = np.arange(span.start - REACH, span.stop + REACH) % total
        part = _cut(line.reshape(len(line), total, num), positions, slice(None)).reshape(len(line), -1)
        own = (span.stop - span.start) // WIDTH
        latents = self._latents(own + 1, WIDTH)
        buffers = _scratch("lines", 2, num, own + 2 * REACH, WIDTH)
        _add_line(part, self._weights[line.dtype.kind][:, 0], latents, buffers)
        _quantize_line(latents, own, codes[:, span.start : span.stop], self._search)

    def _latents(self, height: int, pitch: int) -> np.ndarray:
        """The bias at all positions, (K, height, pitch), K a multiple of `MIXED`."""
        latents = _scratch("latents", self._weights["f"].shape[3], height, pitch)
        latents[: len(self._bias)] = self._bias[:, None, None]
        return latents


_of_thread = threading.local()


def _scratch(name: str, *shape: int) -> np.ndarray:
    """Float32 memory of this thread's, as it was left when it was last asked for; new memory costs a fault a page."""
    kept: np.ndarray | None = getattr(_of_thread, name, None)
    if kept is None or kept.shape != shape:
        size = math.prod(shape)
        # Vectors may be read and written beyond the end, by less than one of them; aligned to the cache's lines.
        memory = np.zeros(size + 4 * WIDTH, np.float32)
        begin = -memory.ctypes.data // 4 % (2 * WIDTH)
        kept = memory[begin : begin + size].reshape(shape)
        setattr(_of_thread, name, kept)
    return kept


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

    def samples(self, num: int, length: int) -> slice | np.ndarray:
        """What to take of an axis of so many samples, `num` a position: a slice where it does not wrap around."""
        first, end = (self.start - self.margin) * num, (self.stop + self.margin) * num
        return slice(first, end) if first >= 0 and end <= length else np.arange(first, end) % length


def _spans(positions: int, most: int) -> list[_Span]:
    """Tiles of an axis: one without margins if it is short, for the whole is a ring of itself."""
    if positions <= most + 2 * REACH:
        return [_Span(0, positions, 0)]
    count = -(-positions // most)
    cuts = [positions * number // count for number in range(count + 1)]
    return [_Span(start, stop, REACH) for start, stop in pairwise(cuts)]


def _line_spans(positions: int, most: int) -> list[_Span]:
    """Tiles of eight pieces, all of the same length, at most so many positions; the last goes on beyond the end."""
    count = -(-positions // (WIDTH * most))
    size = -(-positions // (WIDTH * count)) * WIDTH
    return [_Span(start, start + size, REACH) for start in range(0, positions, size)]


def _cut(image: np.ndarray, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
    """The part (C, H, W) of an image, contiguous, of uint8, or of float32 for all other types."""
    if isinstance(rows, slice):
        part = image[:, rows][:, :, columns]
    elif isinstance(columns, slice):
        part = image[:, :, columns][:, rows]  # columns first, since these rows are copied
    else:
        part = image[:, rows[:, None], columns]
    return np.ascontiguousarray(part, dtype=np.uint8 if part.dtype == np.uint8 else np.float32)
