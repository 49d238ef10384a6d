"""Closed-form codecs with bit planes: all principal components of the packet coefficients, each with its levels.

The encoder is that of `closed_form` with a gain of one, so that the latents are coordinates in an orthonormal basis of
the signal, in units of its range. `levels` chooses how many bits each one has, and the order of the planes; components
without any bit are omitted, and count with their mean, which is zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.families.walloc import WallocCodec
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D, WallocConfig1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D, WallocConfig2D
from walloc_cdl.codec.fit.levels import FittedLevels, fit_levels
from walloc_cdl.codec.fit.moments import principal_directions, signal_weights
from walloc_cdl.codec.fit.signal_pass import SignalFit, measure_moments
from walloc_cdl.errors import CallError
from walloc_cdl.threads import require_threads, torch_threads

POOL_VALUES = 2**25
"""Coefficients from whose positions levels are fitted, 134 MB: 174,762 positions of RGB at three levels."""

MIN_ERROR = 1e-12
"""Smallest mean squared error relative to the squared range, 120 dB."""


@dataclass(frozen=True)
class PlaneFitConfig(SignalFit):
    """Settings of `fit_plane_codec`."""

    max_rate: float | None = None
    """Bits per pixel, or per time step of audio, of all planes. None means two for each of up to three channels of an
    image, and at least 6, and four for each channel of audio."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_rate is not None and not 0 < self.max_rate <= 8 * self.channels:
            raise CallError(
                f"a largest rate of {self.max_rate:g} bits; expected more than 0 and at most 8 for each channel, "
                f"{8 * self.channels}"
            )
        if self.num_planes < 1:
            raise CallError(f"a largest rate of {self.max_rate:g} bits is less than one plane; give a larger one")

    @property
    def rate(self) -> float:
        """Bits per pixel, or per time step of audio, of all planes."""
        if self.max_rate is not None:
            return self.max_rate
        return 4.0 * self.channels if self.kind == "audio" else max(6.0, 2.0 * self.channels)

    @property
    def num_planes(self) -> int:
        """Number of planes to fit."""
        return math.floor(self.rate * self.points_per_position + 1e-9)


@dataclass(frozen=True)
class PlaneFitReport:
    """Statistics and results of a fit of bit planes."""

    num_signals: int
    """Number of images or clips used."""
    num_points: int
    """Number of pixels, or of time steps of audio."""
    latent_channels: int
    num_planes: int
    psnr_db: tuple[float, ...]
    """Expected PSNR, relative to the range of the signal, with 0, 1, … planes: of the mean squared error over all
    signals, where tables of PSNR usually have the mean of the signals' PSNR, which is some dB higher."""
    threads: int
    """Number of torch's threads."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return dataclasses.asdict(self)


def fit_plane_codec(
    signals: Iterable[Tensor], config: PlaneFitConfig, *, num_signals: int = 0, threads: int | None = None
) -> tuple[WallocCodec, PlaneFitReport]:
    """Fit a codec with bit planes in one pass over signals of any size; see `closed_form.fit_codec`."""
    require_threads(threads)
    with torch_threads(threads):
        return _fit(signals, config, 0 if threads else num_signals)


def _fit(signals: Iterable[Tensor], config: PlaneFitConfig, num_expected: int) -> tuple[WallocCodec, PlaneFitReport]:
    pool = _PositionPool(config.num_coefficients, POOL_VALUES // config.num_coefficients, config.seed)
    moments, num_signals = measure_moments(
        signals,
        config,
        observe_signal=lambda signal: None,
        observe_coefficients=pool.offer,
        choose_threads_for=num_expected,
    )
    weights = signal_weights(config.kind, config.channels, config.levels)
    (analysis, synthesis), _ = principal_directions(moments, weights, config.num_coefficients)
    mean = moments.mean()
    samples = pool.samples() - mean.float()
    fitted = fit_levels(
        config.num_coefficients,
        lambda number: (samples @ analysis[number].float()).double().numpy(),
        config.num_planes,
    )
    errors = np.maximum(np.array(fitted.errors) / config.num_coefficients, MIN_ERROR)
    report = PlaneFitReport(
        num_signals=num_signals,
        num_points=moments.num_positions * config.points_per_position,
        latent_channels=len(fitted.channels),
        num_planes=len(fitted.planes),
        psnr_db=tuple(np.round(-10 * np.log10(errors), 2).tolist()),
        threads=torch.get_num_threads(),
    )
    kept = torch.tensor(fitted.channels)
    return _assemble(config, analysis[kept], synthesis[:, kept], mean, fitted, report), report


class _PositionPool:
    """A uniform seeded sample of positions, whose rate is halved whenever it is full."""

    def __init__(self, num_coefficients: int, capacity: int, seed: int) -> None:
        self._parts = [torch.empty(0, num_coefficients)]
        self._capacity, self._size, self._rate = capacity, 0, 1.0
        self._random = np.random.default_rng(seed)

    def offer(self, coefficients: Tensor) -> None:
        """Process the positions of further coefficients, (C · bands, positions)."""
        kept = self._random.random(coefficients.shape[1]) < self._rate
        self._parts.append(coefficients.T[torch.from_numpy(kept)])
        self._size += int(kept.sum())
        while self._size > self._capacity:
            positions = self.samples()
            halved = positions[torch.from_numpy(self._random.random(len(positions)) < 0.5)]
            self._parts, self._size, self._rate = [halved], len(halved), self._rate / 2

    def samples(self) -> Tensor:
        """Return the coefficients of the sampled positions, float32 (n, C · bands)."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]


def _assemble(
    config: PlaneFitConfig,
    analysis: Tensor,
    synthesis: Tensor,
    mean: Tensor,
    fitted: FittedLevels,
    report: PlaneFitReport,
) -> WallocCodec:
    fields = {
        "channels": config.channels,
        "levels": config.levels,
        "latent_channels": len(fitted.channels),
        "bits": max(fitted.tables.bits),
        "name": config.name,
        "planes": fitted.planes,
        "fit": {
            "method": "closed-form planes",
            "psnr_db": list(report.psnr_db),
            **config.describe(report.num_signals, report.num_points),
        },
    }
    codec: WallocCodec
    if config.kind == "audio":
        codec = WallocCodec1D(WallocConfig1D(**fields, sample_rate=config.sample_rate))
    else:
        codec = WallocCodec2D(WallocConfig2D(**fields))
    encoder, decoder = codec.encoder[0], codec.decoder[1]
    with torch.no_grad():
        encoder.weight.copy_(analysis.reshape(encoder.weight.shape))
        encoder.bias.copy_(-(analysis @ mean))
        decoder.weight.copy_(synthesis.reshape(decoder.weight.shape))
        decoder.bias.copy_(mean)
        codec.encoder[1].set_tables(fitted.tables)
    return codec
