"""Quantization of latents by a table of sorted thresholds for each channel.

A code is the number of thresholds that are not above the latent. They are counted, not searched: a comparison and an
addition for each threshold, eight or sixteen positions at a time, take less than the lookups of a binary search, since
most channels have few bits.

Reference: `walloc_cdl.codec.level_quantizer.LevelQuantizer.quantize`.
"""

from __future__ import annotations

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.vectors import WIDTH


class LevelCodes:
    """Turns latents into codes, given the thresholds, float32 (K, at least 2^b - 1), and the bits b of each channel."""

    def __init__(self, thresholds: np.ndarray, channel_bits: tuple[int, ...]) -> None:
        self._thresholds = np.ascontiguousarray(thresholds, np.float32)
        self._counts = 2 ** np.array(channel_bits, np.int64) - 1

    def image(self, latents: np.ndarray, codes: np.ndarray, top: int, left: int) -> None:
        """Write the codes (K, h, w) of the latents (at least K, rows, pitch) from position (top, left) of a tile on."""
        _quantize_image(latents, codes, top, left, self._thresholds, self._counts)

    def sequence(self, latents: np.ndarray, own: int, codes: np.ndarray) -> None:
        """Write the codes (K, t) of latents (at least K, `own` + 1, 8), eight pieces of `own` positions, cut at t."""
        _quantize_sequence(latents, own, codes, self._thresholds, self._counts)


@compiled()
def _count(z: np.ndarray, thresholds: np.ndarray, counts: np.ndarray) -> None:
    """Write to `counts`, int32 (n,), how many of the thresholds are not above each of `z`, float32 (n,)."""
    for i in range(z.size):
        counts[i] = 0
    for threshold in thresholds:
        for i in range(z.size):
            counts[i] += z[i] >= threshold


@compiled()
def _quantize_image(
    latents: np.ndarray, codes: np.ndarray, top: int, left: int, thresholds: np.ndarray, num: np.ndarray
) -> None:
    counts = np.empty(codes.shape[2], np.int32)
    for k in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            _count(latents[k, top + y, left : left + codes.shape[2]], thresholds[k, : num[k]], counts)
            out = codes[k, y]
            for i in range(out.size):
                out[i] = counts[i]


@compiled()
def _quantize_sequence(
    latents: np.ndarray, own: int, codes: np.ndarray, thresholds: np.ndarray, num: np.ndarray
) -> None:
    counts = np.empty(own, np.int32)
    for k in range(codes.shape[0]):
        for piece in range(WIDTH):
            out = codes[k, piece * own : (piece + 1) * own]
            _count(latents[k, : out.size, piece], thresholds[k, : num[k]], counts[: out.size])
            for i in range(out.size):
                out[i] = counts[i]
