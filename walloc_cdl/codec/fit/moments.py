"""Mean, covariance and principal directions of wavelet packet coefficients, for images and for audio."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.kernels.filters import band_energy, band_order
from walloc_cdl.kernels.packets import packet_analysis
from walloc_cdl.kernels.packets_1d import packet_analysis_1d, packet_synthesis_1d

ENERGY_POSITIONS = 32
"""Latent positions around a unit coefficient, which exceed the reach of the synthesis filters."""


def num_bands(kind: str, levels: int) -> int:
    """Return the number of packet bands of one channel: 4^J for images, 2^J for audio."""
    return (4 if kind == "image" else 2) ** levels


class PacketMoments:
    """Mean and covariance of the packet coefficients of any number of signals, in constant memory.

    The covariance takes (C · bands)² doubles: 0.3 MB for RGB, 2 MB for 8 channels at three levels.
    """

    def __init__(self, kind: str, channels: int, levels: int) -> None:
        size = channels * num_bands(kind, levels)
        self._analysis = packet_analysis if kind == "image" else packet_analysis_1d
        self.levels, self.num_positions = levels, 0
        self._sum = torch.zeros(size, dtype=torch.float64)
        self._products = torch.zeros(size, size, dtype=torch.float64)

    @torch.no_grad()
    def update(self, signal: Tensor) -> Tensor:
        """Add one signal (C, H, W) or (C, T) of a type that codecs accept, whose sides are multiples of 2^levels.

        Returns its coefficients, float32 (C · bands, positions).
        """
        x = self._analysis(to_unit_range(signal[None]), self.levels)[0].flatten(1)
        self.num_positions += x.shape[1]
        self._sum += x.sum(1).double()
        self._products += (x @ x.T).double()
        return x

    def mean(self) -> Tensor:
        """Return the mean, float64 (C · bands,)."""
        return self._sum / self.num_positions

    def covariance(self) -> Tensor:
        """Return the covariance, float64 (C · bands, C · bands)."""
        mean = self.mean()
        return self._products / self.num_positions - mean[:, None] * mean[None]


def signal_weights(kind: str, channels: int, levels: int) -> Tensor:
    """Return the root of the signal energy of unit coefficients, float64 (C · bands,), in the published order."""
    if kind == "audio":
        energy = band_energy_1d(levels)
    else:
        one_axis = band_energy(levels)
        energy = np.outer(one_axis, one_axis).reshape(-1)[band_order(levels)]
    return torch.from_numpy(np.sqrt(np.tile(energy, channels)))


@lru_cache(maxsize=8)
def band_energy_1d(levels: int) -> np.ndarray:
    """Return `band_energy`, float64 (2^levels,), computed by synthesizing a unit coefficient of each band.

    The matrix that `band_energy` inverts has (32 · 2^levels)² entries, which take half a gigabyte at eight levels.
    """
    bands = 2**levels
    energies = []
    for start in range(0, bands, 64):
        count = min(64, bands - start)
        unit = torch.zeros(count, bands, ENERGY_POSITIONS, dtype=torch.float64)
        unit[torch.arange(count), torch.arange(start, start + count), ENERGY_POSITIONS // 2] = 1
        energies.append(packet_synthesis_1d(unit, levels)[:, 0].square().sum(1))
    return torch.cat(energies).numpy()


def principal_directions(moments: PacketMoments, weights: Tensor, count: int) -> tuple[tuple[Tensor, Tensor], float]:
    """Return (analysis (K, C · bands), synthesis (C · bands, K)) for a gain of 1, and the kept share of variance."""
    variances, vectors = torch.linalg.eigh(moments.covariance() * weights[:, None] * weights[None])
    leading = vectors.flip(1)[:, :count]
    # The sign of an eigenvector is arbitrary and differs between LAPACK builds, so the largest entry is made positive.
    largest = leading.gather(0, leading.abs().argmax(0, keepdim=True))
    leading = leading * largest.sign()
    kept = float(variances.flip(0)[:count].sum() / variances.sum())
    return (leading.T * weights, leading / weights[:, None]), kept
