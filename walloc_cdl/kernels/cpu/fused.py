"""From uint8 pixels to uint8 codes on the CPU in one pass: the fast path of `encode`, compiled by numba.

A signal is encoded tile by tile, and a tile channel by channel (`_add_image`):

1. **Rows.** Eight rows at a time are loaded into phases, one row in each lane, and lifted along the rows, all levels.
   The eight rows are those of the same phase down the image at eight successive positions, so that lane l belongs to
   position `top` + l.
2. **Transposition.** Blocks of eight positions across and eight lanes are transposed into `phases`, (phase down, phase
   across, position down, position across). A vector is now eight neighboring positions across of one row, so that eight
   lanes are eight columns.
3. **Columns.** For eight positions across and one phase across at a time, the columns are lifted, all levels. The
   buffer then holds 2^J bands, at all positions down, of eight latent positions across.
4. **Mix.** The products of these bands and their weights are added to the K latents (`simd.mix`), before the next
   eight columns.

Finally the code of each latent is looked up among the thresholds of the companding (`quantize`), or of the channel's
levels (`quantize_levels`).

A sample of an image costs 4 J multiply-adds and as many additions for lifting along both axes, and K multiply-adds for
the mix: 12 + 12 + 12 with three levels and twelve latent channels. A pixel of RGB costs three times as much, where the
matrix form takes 1,000 multiply-adds, 300 of them with taps that are not zero. docs/performance.md has the times. The
codes depend neither on the batch nor on the number of threads.

**Tiles.** The transform is periodic over the whole signal, but the data of a tile should fit the second-level cache,
and memory should not grow with the image. So a larger image is cut into tiles of about `TILE_SAMPLES` a side. A tile
has a *margin* of `REACH` latent positions on each side, which wraps around the ends of the image, and is transformed
as if it were periodic. The result is wrong only where filters reach around the ends of the tile, which is within the
margin, and the codes of the margin are discarded. An image of a single tile needs no margin.

**Audio** (`_add_sequence`) has only one axis, so the eight lanes are eight pieces of the signal, each with a margin on
both sides, and there is no transposition.

No compiler is needed on the machine: the first call compiles for some seconds, and the result is cached. The torch path
remains for gradients and other precisions, and is the reference.

Reference: `walloc_cdl.kernels.packets.packet_encode` followed by companding and rounding. Both compute in float32, so
that about one code in 100,000 is rounded differently, by one.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.lifting import address_of, lift_level, lift_levels, phase_of_band, scale_of_band
from walloc_cdl.kernels.cpu.quantize import CompandedCodes
from walloc_cdl.kernels.cpu.quantize_levels import LevelCodes
from walloc_cdl.kernels.cpu.signal_tiles import REACH, Span, cut_part, piece_spans, tile_spans
from walloc_cdl.kernels.cpu.simd.loads import load_eight, load_four, load_two, transpose_8x8
from walloc_cdl.kernels.cpu.simd.mix import LATENTS_PER_BLOCK, mix_block
from walloc_cdl.kernels.cpu.simd.vectors import VECTOR_BYTES, WIDTH
from walloc_cdl.kernels.filters import band_order

TILE_SAMPLES = 512
"""Side of a tile of an image, without its margin; the data of a tile fit the second-level cache."""
PIECE_SAMPLES = 2**12
"""Length of each of the eight pieces of a tile of audio, without its margin."""
MIN_POSITIONS = 32
"""Minimum number of positions of a tile's side or of a piece, however many samples these are, since the margins add
`REACH` on both sides."""

VALUES_PER_UNIT = {"u": 255, "i": 65536, "f": 1}
"""Integer values per unit of the signal by kind of its dtype, uint8, int16 or float; the weights are divided by it."""


@compiled()
def _load_lines(samples: np.ndarray, step: int, positions: int, lines: np.ndarray) -> None:
    """Load eight lines of uint8 or float32 into phases (2^levels, at least `positions`, 8), line l in lane l.

    Line l begins l · `step` samples after the first of `samples`, which are contiguous over the length of the lines.
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
    """Add the contributions of pixels (C, H, W), with periodic rows and columns, to the latents (K, h + 1, pitch).

    `weight` is (C, phases across, phases down, K), K a multiple of `LATENTS_PER_BLOCK`. `phases` (down, across, h,
    pitch) and the buffers (2, 2^levels, positions, 8) of rows and columns are overwritten. H is at least eight times
    2^levels.
    """
    num, height = phases.shape[0], phases.shape[2]
    width = pixels.shape[2]
    positions, pitch = width // num, latents.strides[1]
    for channel in range(pixels.shape[0]):
        samples = pixels[channel].reshape(-1)
        # Steps 1 and 2: position top + l of the rows of phase `down` is row (top + l) · num + down, and goes to lane l.
        for start in range(0, height, WIDTH):
            top = min(start, height - WIDTH)  # the last eight may overlap with those before
            for down in range(num):
                _load_lines(samples[(top * num + down) * width :], num * width, positions, rows[0])
                last = rows[lift_levels(rows, positions, 0)]
                for across in range(num):
                    out = phases[down, across]
                    for left in range(0, positions, WIDTH):
                        place = address_of(out) + top * out.strides[0] + 4 * left
                        transpose_8x8(address_of(last[across, left:]), VECTOR_BYTES, place, out.strides[0])
        # Steps 3 and 4: lane l is position left + l of the columns of phase `across`.
        for left in range(0, positions, WIDTH):
            for across in range(num):
                # Level 0 reads the planes of `phases` in place, and writes the buffer that level 1 reads.
                plane = phases[:, across]
                begin, end = address_of(plane) + 4 * left, address_of(columns[1])
                stride, line = columns.strides[1], columns.strides[2]
                lift_level(begin, plane.strides[0], plane.strides[1], end, stride, line, num, height, 0)
                last = columns[lift_levels(columns, height, 1)]
                _mix(
                    last, 0, height, weight[channel, across], address_of(latents) + 4 * left, latents.strides[0], pitch
                )


@compiled()
def _add_sequence(samples: np.ndarray, weight: np.ndarray, latents: np.ndarray, buffers: np.ndarray) -> None:
    """Add the contributions of samples (C, T), eight pieces of n positions, to the latents (K, n + 1, 8).

    Each lane has one piece.

    T is 8 n + 2 · `REACH` positions; `weight` is (C, phases, K), `buffers` (2, phases, n + 2 · `REACH`, 8). A piece is
    loaded with `REACH` positions of its neighbors on both sides, and lifted as if it were periodic; only its own n
    positions are mixed.
    """
    num, positions = buffers.shape[1], buffers.shape[2]
    own = positions - 2 * REACH
    for channel in range(samples.shape[0]):
        _load_lines(samples[channel], own * num, positions, buffers[0])
        last = buffers[lift_levels(buffers, positions, 0)]
        _mix(last, REACH, own, weight[channel], address_of(latents), latents.strides[0], VECTOR_BYTES)


@compiled()
def _mix(
    bands: np.ndarray, first: int, height: int, weight: np.ndarray, target: int, latent_stride: int, line: int
) -> None:
    """Add the products of `weight` (bands, K) and bands (bands, positions, 8) at `height` positions from `first` on.

    `target` is the address of the vector of the first latent at the first of these positions; the next position is
    `line` bytes later. Positions are processed in pairs: if `height` is odd, `bands` and the latents need one more.
    """
    for latent in range(0, weight.shape[1], LATENTS_PER_BLOCK):
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


class FusedEncoder:
    """The encoding side of a codec with a linear encoder on the CPU: pixels or samples to stored codes.

    `weight` (K, C · bands) over bands in the published order and `bias` (K,) are those of the linear layer on
    pixels in [-0.5, 0.5], and are copied; `dimensions` is 2 for images and 1 for audio. `codes` quantizes.
    Thread-safe.
    """

    def __init__(
        self, weight: np.ndarray, bias: np.ndarray, *, levels: int, dimensions: int, codes: CompandedCodes | LevelCodes
    ) -> None:
        self.levels, self.vertical = levels, levels if dimensions == 2 else 0
        phases, scales = _layout(levels, dimensions)
        num_bands = len(phases)
        published = weight.astype(np.float64).reshape(len(weight), -1, num_bands)
        by_phase = np.zeros((-(-len(weight) // LATENTS_PER_BLOCK) * LATENTS_PER_BLOCK, *published.shape[1:]))
        by_phase[: len(weight), :, phases] = published * scales
        across = 2**levels if dimensions == 2 else 1
        by_phase = by_phase.reshape(*by_phase.shape[:2], -1, across).transpose(1, 3, 2, 0)
        self._weights = {
            kind: np.ascontiguousarray(by_phase / values, dtype=np.float32) for kind, values in VALUES_PER_UNIT.items()
        }
        self._bias = np.array(bias, np.float32)
        self._codes = codes

    @property
    def has_planes(self) -> bool:
        """Whether its codes have bit planes, which are stored as rows: see `encode_rows`."""
        return isinstance(self._codes, LevelCodes)

    def encode(self, signal: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Return stored codes uint8, (B, K, h, w) or (B, K, t), of a signal.

        Images (B, C, H, W) are uint8 or float, audio (B, C, T) is int16 or float; sides are multiples of 2^levels. The
        codes depend neither on the batch nor on the number of threads.
        """
        sides = [length >> self.levels for length in signal.shape[2:]]
        codes = np.empty((len(signal), len(self._bias), *sides), np.uint8)
        max_positions = max((TILE_SAMPLES if self.vertical else PIECE_SAMPLES) >> self.levels, MIN_POSITIONS)
        if self.vertical:
            encode, tiles = self._encode_tile, list(product(*(tile_spans(side, max_positions) for side in sides)))
        else:
            encode, tiles = self._encode_pieces, [(span,) for span in piece_spans(sides[0], max_positions)]
        calls = [(signal[number], codes[number], *tile) for number in range(len(signal)) for tile in tiles]
        if num_threads > 1 and len(calls) > 1:
            with ThreadPoolExecutor(num_threads) as threads:
                list(threads.map(lambda call: encode(*call), calls))
        else:
            for call in calls:
                encode(*call)
        return codes

    def encode_rows(self, signal: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Return stored rows of bit planes, uint8 (B, R), of a signal, as `encode` takes it.

        Raises `CallError` for codes that are stored as bytes.
        """
        if not isinstance(self._codes, LevelCodes):
            raise CallError("this encoder has no bit planes, so that codes are stored as bytes; call encode")
        return self._codes.rows(self.encode(signal, num_threads))

    def _encode_tile(self, image: np.ndarray, codes: np.ndarray, rows: Span, columns: Span) -> None:
        """Encode a tile of an image (C, H, W) into its part of codes (K, h, w)."""
        num = 1 << self.levels
        part = cut_part(image, rows.samples(num, image.shape[1]), columns.samples(num, image.shape[2]))
        repeats = -(-WIDTH * num // part.shape[1])
        if repeats > 1:  # fewer rows than a vector has lanes: several periods are transformed
            part = np.tile(part, (1, repeats, 1))
        height, width = part.shape[1] // num, part.shape[2] // num
        pitch = -(-width // (2 * WIDTH)) * 2 * WIDTH
        latents = self._latents(height + 1, pitch)
        # The distance of planes is not a power of two, so that the planes of a column use different cache lines.
        phases = _scratch("phases", num, num + 1, height, pitch)[:, :num]
        buffers = (_scratch(name, 2, num, size + 1, WIDTH) for name, size in (("rows", pitch), ("columns", height)))
        _add_image(part, self._weights[image.dtype.kind], latents, phases, *buffers)
        own = codes[:, rows.start : rows.stop, columns.start : columns.stop]
        self._codes.image(latents, own, rows.margin, columns.margin)

    def _encode_pieces(self, line: np.ndarray, codes: np.ndarray, span: Span) -> None:
        """Encode eight pieces of a signal (C, T) into their part of codes (K, t)."""
        num, total = 1 << self.levels, codes.shape[1]
        positions = np.arange(span.start - REACH, span.stop + REACH) % total
        part = cut_part(line.reshape(len(line), total, num), positions, slice(None)).reshape(len(line), -1)
        own = (span.stop - span.start) // WIDTH
        latents = self._latents(own + 1, WIDTH)
        buffers = _scratch("lines", 2, num, own + 2 * REACH, WIDTH)
        _add_sequence(part, self._weights[line.dtype.kind][:, 0], latents, buffers)
        self._codes.sequence(latents, own, codes[:, span.start : span.stop])

    def _latents(self, height: int, pitch: int) -> np.ndarray:
        """Return latents (K, height, pitch), K a multiple of `LATENTS_PER_BLOCK`, initialized with the bias."""
        latents = _scratch("latents", self._weights["f"].shape[3], height, pitch)
        latents[: len(self._bias)] = self._bias[:, None, None]
        return latents


_thread_scratch = threading.local()


def _scratch(name: str, *shape: int) -> np.ndarray:
    """Return float32 scratch memory of this thread, not cleared; new memory would cost a page fault for each page."""
    scratch: np.ndarray | None = getattr(_thread_scratch, name, None)
    if scratch is None or scratch.shape != shape:
        size = math.prod(shape)
        # Vectors may be read and written beyond the end by less than one vector. Aligned to cache lines.
        memory = np.zeros(size + 4 * WIDTH, np.float32)
        begin = -memory.ctypes.data // 4 % (2 * WIDTH)
        scratch = memory[begin : begin + size].reshape(shape)
        setattr(_thread_scratch, name, scratch)
    return scratch


def _layout(levels: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return phase and scale of every band in the published order."""
    phase, scale = phase_of_band(levels), scale_of_band(levels)
    if dimensions == 1:
        return phase, scale
    down, across = np.divmod(band_order(levels), 2**levels)
    return phase[down] * 2**levels + phase[across], scale[down] * scale[across]
