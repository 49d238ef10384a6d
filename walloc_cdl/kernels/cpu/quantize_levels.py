"""Quantization of latents by a table of sorted thresholds for each channel.

A code is the number of thresholds that are not above the latent. It is searched bit by bit, for as many positions at a
time as a vector has lanes: a comparison for each bit, with a threshold that the bits before it look up in registers
(`simd.planes`). Counting all thresholds, a comparison and an addition for each of 2^b - 1, took seven times as long
for channels of 2 to 6 bits.

Reference: `walloc_cdl.codec.level_quantizer.LevelQuantizer.quantize`.
"""

from __future__ import annotations

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.lifting import address_of
from walloc_cdl.kernels.cpu.planes import pack
from walloc_cdl.kernels.cpu.simd.planes import MAX_LANES, search_codes
from walloc_cdl.kernels.cpu.simd.vectors import WIDTH
from walloc_cdl.planes.levels import heap_of_thresholds
from walloc_cdl.spec import count_planes


class LevelCodes:
    """Turns latents into codes, given their bit planes and the thresholds, float32 (K, at least 2^b - 1)."""

    def __init__(self, thresholds: np.ndarray, planes: tuple[int, ...]) -> None:
        self.planes = planes
        bits = count_planes(planes)[1]
        self._bits = np.array(bits, np.int64)
        self._heaps = np.zeros((len(bits), 2 ** max(bits) + MAX_LANES), np.float32)
        for channel, count in enumerate(bits):
            self._heaps[channel, : 2**count] = heap_of_thresholds(thresholds[channel, : 2**count - 1], count)

    def image(self, latents: np.ndarray, codes: np.ndarray, top: int, left: int) -> None:
        """Write the codes (K, h, w) of the latents (at least K, rows, pitch) from position (top, left) of a tile on."""
        _quantize_image(latents, codes, top, left, self._heaps, self._bits)

    def sequence(self, latents: np.ndarray, own: int, codes: np.ndarray) -> None:
        """Write the codes (K, t) of latents (at least K, `own` + 1, 8), eight pieces of `own` positions, cut at t."""
        _quantize_sequence(latents, own, codes, self._heaps, self._bits)

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Return the rows of bit planes, uint8 (N, R), of codes (N, K, …)."""
        return pack(codes, self.planes)


@compiled()
def _quantize_image(
    latents: np.ndarray, codes: np.ndarray, top: int, left: int, heaps: np.ndarray, bits: np.ndarray
) -> None:
    for k in range(codes.shape[0]):
        search_codes(
            bits[k],
            address_of(heaps[k]),
            address_of(latents[k, top, left:]),
            latents.strides[1],
            address_of(codes[k]),
            codes.strides[1],
            codes.shape[1],
            codes.shape[2],
        )


@compiled()
def _quantize_sequence(latents: np.ndarray, own: int, codes: np.ndarray, heaps: np.ndarray, bits: np.ndarray) -> None:
    by_position = np.empty((own, WIDTH), np.uint8)
    for k in range(codes.shape[0]):
        lines = address_of(latents[k]), 0, address_of(by_position), 0
        search_codes(bits[k], address_of(heaps[k]), *lines, 1, by_position.size)
        for piece in range(WIDTH):
            out = codes[k, piece * own : (piece + 1) * own]
            for i in range(out.size):
                out[i] = by_position[i, piece]
