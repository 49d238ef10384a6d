"""Closed-form codecs: principal components of the packet coefficients, computed in one pass over signals.

The encoder keeps the K directions of largest variance, all with one gain g:

    z = g Uᵀ W (x − μ),   x̂ = μ + W⁻¹ U z / g

where x are the packet coefficients at one position (C · 4^J of an image, C · 2^J of audio), μ is their mean, W is the
diagonal matrix of the √energy of each band's synthesis function, and U are the leading eigenvectors of the covariance
of W x. Rounding z adds a variance of 1 / (12 g²) to each channel; a larger gain improves quality at a higher rate.

Why the coefficients are weighted: bior4.4 is not orthonormal, and the energy of a unit coefficient in pixels is 0.76 to
1.18 along each axis. With the weights, the principal components maximize the energy of the signal rather than of the
coefficients, which gains 0.09 dB with 12 channels and 0.16 dB with 48 on Kodak at equal rate.

Why the gain is where a further bit per pixel is worth 1 dB (`slope_db_per_bpp`): a fixed loss against no rounding, the
first criterion tried, selects gains that differ by a factor of four between 4 and 48 channels. For more than three
channels the slope is 3 / C dB, since with 1 dB a pixel of 198 values gets 40.5 dB, and 11 more bits give 45.5 dB.

Why fits stop at 4,096 coefficients: the covariance of 198 channels at three levels is 12,672², which takes 1.3 GB, and
its eigenvectors take 64 times as long as at two levels; one level suffices where the redundancy is between the bands.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from walloc_cdl.codec.families.walloc import WallocCodec
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D, WallocConfig1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D, WallocConfig2D
from walloc_cdl.codec.fit.gain_curve import CURVE_CROP, GAINS, CurvePoint, Reservoir, center_crop, measure_point
from walloc_cdl.codec.fit.moments import PacketMoments, num_bands, principal_directions, signal_weights
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.threads import choose_threads, require_threads, torch_threads

MAX_COEFFICIENTS = 4096
"""Maximum number of packet coefficients at one position. Their covariance takes 134 MB in doubles, and its eigenvectors
about a minute on two cores."""

PIECE_SAMPLES = 2**25
"""Audio samples that are transformed at a time: 12 minutes at 44.1 kHz, a multiple of every stride."""

MAX_LEVELS = {"image": 5, "audio": 12}


@dataclass(frozen=True)
class FitConfig:
    """Settings of `fit_codec`."""

    kind: str = "image"
    """`image` or `audio`."""
    channels: int = 3
    reduction: float = 16.0
    """Source values for each latent value."""
    components: int | None = None
    """K; it overrides `reduction`, for values of K that no whole reduction gives."""
    levels: int = 3
    sample_rate: int | None = None
    """Sample rate in Hz, for audio."""
    bits: int = 8
    name: str = "fitted"
    gain: float | None = None
    """None selects the gain on the rate–distortion curve."""
    slope_db_per_bpp: float | None = None
    """Gain in dB that one more bit per pixel, or per time step of audio, must achieve. None means 1 for gray and RGB,
    and 3 / C for more channels and for audio, which is the same for each value as with RGB."""
    num_curve_signals: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.reduction >= 1:
            raise CallError(f"a reduction of {self.reduction:g}; it must be at least 1")
        if not 1 <= self.levels <= MAX_LEVELS[self.kind]:
            raise CallError(f"{self.levels} wavelet levels; expected 1 to {MAX_LEVELS[self.kind]} for {self.kind}")
        if self.gain is not None and not 0 < self.gain < math.inf:
            raise CallError(f"a gain of {self.gain:g}; it must be a number above 0")
        if self.slope_db_per_bpp is not None and not 0 <= self.slope_db_per_bpp < math.inf:
            raise CallError(f"a slope of {self.slope_db_per_bpp:g} dB per bit and pixel; it must be a number from 0 up")
        if self.num_curve_signals < 1:
            raise CallError(f"a curve of {self.num_curve_signals} signals; it needs at least 1")

    @property
    def num_coefficients(self) -> int:
        """Packet coefficients at one position: C · 4^J of an image, C · 2^J of audio."""
        return self.channels * num_bands(self.kind, self.levels)

    @property
    def latent_channels(self) -> int:
        """K; raises `CallError` if the reduction gives no whole K, or if K exceeds the number of coefficients."""
        if self.components is not None:
            if self.components > self.num_coefficients:
                raise CallError(
                    f"{self.components} latent channels; {self.channels} channels and {self.levels} levels give at "
                    f"most {self.num_coefficients}"
                )
            return self.components
        exact = self.num_coefficients / self.reduction
        if abs(exact - round(exact)) > 1e-9 or round(exact) < 1:
            raise CallError(
                f"a reduction of {self.reduction:g} with {self.channels} channels and {self.levels} levels gives "
                f"{exact:.3g} latent channels; expected a whole number of at least 1; "
                f"try a reduction of {self._nearest_reductions()}"
            )
        return round(exact)

    def _nearest_reductions(self) -> str:
        """Return the nearest whole reductions that give a whole K."""
        valid = [count for count in range(1, self.num_coefficients + 1) if self.num_coefficients % count == 0]
        nearest = sorted(sorted(valid, key=lambda count: abs(math.log(count / self.reduction)))[:3])
        return " or ".join(filter(None, [", ".join(map(str, nearest[:-1])), str(nearest[-1])]))

    def merit(self, point: CurvePoint) -> float:
        """Return the figure of merit in dB; its maximum is where the curve has the slope `slope_db_per_bpp`."""
        slope = self.slope_db_per_bpp
        if slope is None:
            slope = 3 / self.channels if self.kind == "audio" or self.channels > 3 else 1.0
        return point.psnr_db - slope * point.bpp


@dataclass(frozen=True)
class FitReport:
    """Statistics and results of a fit."""

    num_signals: int
    """Number of images or clips used."""
    num_points: int
    """Number of pixels, or of time steps of audio."""
    kept_energy: float
    """Fraction of the signals' variance in the K components, before rounding."""
    chosen: CurvePoint
    curve: tuple[CurvePoint, ...]
    threads: int
    """Number of torch's threads."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return dataclasses.asdict(self)


def fit_codec(
    signals: Iterable[Tensor], config: FitConfig, *, num_signals: int = 0, threads: int | None = None
) -> tuple[WallocCodec, FitReport]:
    """Fit a codec in one pass over signals of any size, (C, H, W) or (C, T); deterministic for the same order.

    Signals have the types that `Codec.encode` accepts. They are cropped to multiples of the stride; signals smaller
    than the stride are skipped. Given about how many there are (`num_signals`), the number of torch's threads is the
    one that is fastest when the fit begins, at most the one that is set; `threads` fixes it. Raises `CallError` for a
    wrong channel count or reduction and for more than `MAX_COEFFICIENTS`, and `JobError` if there is too little data.
    """
    require_threads(threads)
    with torch_threads(threads):
        return _fit(signals, config, 0 if threads else num_signals)


def _fit(signals: Iterable[Tensor], config: FitConfig, num_expected: int) -> tuple[WallocCodec, FitReport]:
    """Fit with the number of threads that is set, or, given how many signals to expect, with the fastest number."""
    count, stride = config.latent_channels, 2**config.levels
    _require_size(config)
    moments = PacketMoments(config.kind, config.channels, config.levels)
    sample = Reservoir(config.num_curve_signals, config.seed)
    num_signals = 0
    for signal in signals:
        if signal.shape[0] != config.channels:
            signal_name = "an image" if config.kind == "image" else "a clip"
            raise CallError(f"{signal_name} of {signal.shape[0]} channels; this codec is fitted to {config.channels}")
        if min(signal.shape[1:]) < stride:
            continue
        pieces = _pieces(_cropped(signal, stride), config.kind)
        if num_expected and not num_signals:
            torch.set_num_threads(_fastest_threads(config, pieces[0], num_expected))
        for piece in pieces:
            moments.update(piece)
        sample.offer(center_crop(signal, stride, CURVE_CROP[config.kind]))
        num_signals += 1
    if moments.num_positions <= config.num_coefficients:
        raise JobError(
            f"{num_signals} usable signals with {moments.num_positions} positions at stride {stride} are too few for "
            f"{config.num_coefficients} coefficients; give more or larger ones, or fewer levels"
        )
    weights = signal_weights(config.kind, config.channels, config.levels)
    directions, kept = principal_directions(moments, weights, count)
    curve: list[CurvePoint] = []
    for gain in GAINS if config.gain is None else [config.gain]:
        curve.append(measure_point(_assemble(config, directions, moments.mean(), gain), sample.items, gain))
        if len(curve) > 2 and config.merit(curve[-1]) < config.merit(curve[-2]) < config.merit(curve[-3]):
            break  # the curve is concave, so larger gains are worse
    chosen = max(curve, key=config.merit)
    axes = 2 if config.kind == "image" else 1
    num_points, threads = moments.num_positions * stride**axes, torch.get_num_threads()
    report = FitReport(num_signals, num_points, kept, chosen, tuple(curve), threads)
    return _assemble(config, directions, moments.mean(), chosen.gain, _fit_info(config, report)), report


def _fastest_threads(config: FitConfig, piece: Tensor, num_signals: int) -> int:
    """Return the number of threads with which the moments of a signal like `piece` are computed fastest now.

    Measuring a signal of the curve at one gain takes about as long.
    """
    num_measured = config.num_curve_signals * (1 if config.gain else len(GAINS) // 2)
    trial = PacketMoments(config.kind, config.channels, config.levels)
    return choose_threads(lambda: trial.update(piece), num_signals + num_measured)


def _fit_info(config: FitConfig, report: FitReport) -> dict[str, Any]:
    """Return the description of the fit for `config.json`."""
    signals, points = ("num_images", "num_pixels") if config.kind == "image" else ("num_clips", "num_samples")
    return {
        "method": "closed-form",
        "gain": report.chosen.gain,
        "kept_energy": round(report.kept_energy, 6),
        signals: report.num_signals,
        points: report.num_points,
        "seed": config.seed,
    }


def _cropped(signal: Tensor, stride: int) -> Tensor:
    """Crop the signal at its end, so that each side is a multiple of the stride."""
    return signal[(slice(None), *(slice(side // stride * stride) for side in signal.shape[1:]))]


def _pieces(signal: Tensor, kind: str) -> tuple[Tensor, ...]:
    """Split audio into pieces of at most `PIECE_SAMPLES`, so that memory is bounded; images stay whole."""
    return signal.split(PIECE_SAMPLES, dim=1) if kind == "audio" else (signal,)


def _require_size(config: FitConfig) -> None:
    count = config.num_coefficients
    if count > MAX_COEFFICIENTS:
        possible = range(1, config.levels)
        fewer = [n for n in possible if config.channels * num_bands(config.kind, n) <= MAX_COEFFICIENTS]
        remedy = f"take --levels {fewer[-1]}" if fewer else "take fewer channels"
        raise CallError(
            f"{config.channels} channels at {config.levels} levels are {count:,} coefficients, whose covariance "
            f"takes {8 * count**2 / 1e9:.2g} GB; at most {MAX_COEFFICIENTS:,} are fitted, so {remedy}"
        )


def _assemble(
    config: FitConfig,
    directions: tuple[Tensor, Tensor],
    mean: Tensor,
    gain: float,
    fit_info: dict[str, Any] | None = None,
) -> WallocCodec:
    codec = _uninitialized_codec(config, fit_info or {})
    analysis, synthesis = directions
    encoder, decoder = codec.encoder[0], codec.decoder[1]
    with torch.no_grad():
        encoder.weight.copy_((gain * analysis).reshape(encoder.weight.shape))
        encoder.bias.copy_(-gain * (analysis @ mean))
        decoder.weight.copy_((synthesis / gain).reshape(decoder.weight.shape))
        decoder.bias.copy_(mean)
    return codec


def _uninitialized_codec(config: FitConfig, fit_info: dict[str, Any]) -> WallocCodec:
    """Return a codec of the configured structure, whose weights the caller sets."""
    fields = {
        "channels": config.channels,
        "levels": config.levels,
        "latent_channels": config.latent_channels,
        "bits": config.bits,
        "name": config.name,
        "fit": fit_info,
    }
    if config.kind == "audio":
        return WallocCodec1D(WallocConfig1D(**fields, sample_rate=config.sample_rate))
    return WallocCodec2D(WallocConfig2D(**fields))
