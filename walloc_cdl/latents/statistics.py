"""Histograms of stored bytes, and channel statistics computed from them, independent of the order of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from walloc_cdl.errors import CallError
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.latents.packing import are_rows
from walloc_cdl.planes.levels import LevelTables, channel_values
from walloc_cdl.spec import LatentSpec

_CHUNK_SAMPLES = 512
"""Samples that are counted at a time: counting widens bytes to integers, which should fit the cache."""


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Mean and standard deviation of each channel, in units of the values that bytes represent."""

    mean: np.ndarray
    """float64 (K,)."""
    std: np.ndarray
    """float64 (K,); the population's, not a sample estimate."""


def code_histogram(codes: np.ndarray, num_channels: int) -> np.ndarray:
    """Count how often each byte occurs in each channel: int64 (K, 256) from uint8 (N, K, …).

    Histograms of parts add up to the histogram of the whole.
    """
    histogram = np.zeros((num_channels, 256), np.int64)
    for start in range(0, len(codes), _CHUNK_SAMPLES):
        chunk = codes[start : start + _CHUNK_SAMPLES]
        for channel in range(num_channels):
            histogram[channel] += np.bincount(chunk[:, channel].reshape(-1), minlength=256)
    return histogram


def samples_histogram(codes: np.ndarray | Sequence[np.ndarray], layout: SampleLayout) -> np.ndarray:
    """Return the code histogram of samples of any geometry: (N, K, …), (N, V, K, …), or N arrays (K, …).

    Rows, (N, R) or (N, V, R), may take the place of packed codes.
    """
    channels = layout.spec.latent_channels
    if isinstance(codes, np.ndarray) and are_rows(codes, layout):
        from walloc_cdl.kernels.cpu.planes import row_histogram  # numba takes half a second to import

        return row_histogram(codes.reshape(-1, codes.shape[-1]), layout.spec.planes or (), layout.grid)
    if not layout.ragged:
        return code_histogram(codes.reshape(-1, *layout.latent_shape), channels)
    histogram = np.zeros((channels, 256), np.int64)
    for start in range(0, len(codes), _CHUNK_SAMPLES):
        rows = [sample.reshape(channels, -1) for sample in codes[start : start + _CHUNK_SAMPLES]]
        histogram += code_histogram(np.concatenate(rows, axis=1)[None], channels)
    return histogram


def prefix_histogram(histogram: np.ndarray, spec: LatentSpec, prefix: LatentSpec) -> np.ndarray:
    """Return the histogram that the codes of a prefix of the bit planes have, int64 (K', 256), of that of all planes.

    It is `histogram` itself if `prefix` equals `spec`.
    """
    if prefix == spec:
        return histogram
    coarse = np.zeros((prefix.latent_channels, 256), np.int64)
    for channel, (bits, own) in enumerate(zip(prefix.channel_bits, spec.channel_bits, strict=False)):
        coarse[channel, : 2**bits] = histogram[channel, : 2**own].reshape(2**bits, -1).sum(1)
    return coarse


def channel_statistics(histogram: np.ndarray, spec: LatentSpec, levels: LevelTables | None = None) -> ChannelStatistics:
    """Return mean and standard deviation of the values of codes, computed from an int64 (K, 256) histogram.

    `levels` are those of latents with bit planes. Raises `CallError` for a histogram without samples or with bytes that
    cannot occur.
    """
    low, high = spec.byte_range
    if histogram[:, :low].any() or histogram[:, high + 1 :].any():
        raise CallError(f"histogram counts bytes outside {low} to {high}; run `cdl verify --full` on the data set")
    counts = histogram[:, low : high + 1].astype(np.float64)
    totals = counts.sum(1, keepdims=True)
    if not totals.all():
        raise CallError("channel statistics of no samples; the split is empty")
    values = channel_values(spec, levels)[:, low : high + 1]
    mean = (counts * values).sum(1, keepdims=True) / totals
    variance = (counts * (values - mean) ** 2).sum(1) / totals[:, 0]
    return ChannelStatistics(mean[:, 0], np.sqrt(variance))
