"""Closed-form codecs: principal components of the packet coefficients, computed in one pass over signals.

The encoder keeps the K directions of largest variance, all with one gain g:

    z = g Uᵀ W (x − μ),   x̂ = μ + W⁻¹ U z / g

where x are the packet coefficients at one position (C · 4^J of an image, C · 2^J of audio), μ is their mean, W is the
diagonal matrix of the √energy of each band's synthesis function, and U are the leading eigenvectors of the covariance
of W x. Rounding z adds a variance of 1 / (12 g²) to each channel; a larger gain improves quality at a higher rate.

Why the coefficients are weighted: bior4.4 is not orthonormal, and the energy of a unit coefficient in pixels is 0.76 to
1.18 along each axis. With the weights, the principal components maximize the energy of the signal rather than of the
coefficients, which gains 0.09 dB with 12 channels and 0.16 dB with 48 on Kodak at equal rate.

Which gain is best depends on how the codes are stored. Raw, they take the same bytes at any gain, so that the error
alone decides: rounding costs less the larger the gain is, until companding, which has 255 codes, saturates. The gain is
the one with the largest PSNR. In entropy-coded archives a larger gain costs bits, and the gain is the one where a
further bit per pixel is worth 1 dB (`slope_db_per_bpp`). A fixed loss against no rounding, the first criterion tried,
selects gains that differ by a factor of four between 4 and 48 channels. For more than three channels the slope is 3 / C
dB, since with 1 dB a pixel of 198 values gets 40.5 dB, and 11 more bits give 45.5 dB.
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
from walloc_cdl.codec.fit.moments import principal_directions, signal_weights
from walloc_cdl.codec.fit.signal_pass import SignalFit, measure_moments
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.threads import require_threads, torch_threads

STORAGES = ("raw", "archive")


@dataclass(frozen=True)
class FitConfig(SignalFit):
    """Settings of `fit_codec`."""

    reduction: float = 16.0
    """Source values for each latent value."""
    components: int | None = None
    """K; it overrides `reduction`, for values of K that no whole reduction gives."""
    bits: int = 8
    gain: float | None = None
    """None selects the gain on the rate–distortion curve."""
    storage: str = "raw"
    """How the codes are stored, for which the gain is chosen: `raw`, as bytes, or `archive`, entropy-coded."""
    slope_db_per_bpp: float | None = None
    """With storage `archive`, the dB that one more bit per pixel, or per time step of audio, must achieve. None means 1
    for gray and RGB, and 3 / C for more channels and for audio, which is the same for each value as with RGB."""
    num_curve_signals: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reduction >= 1:
            raise CallError(f"a reduction of {self.reduction:g}; it must be at least 1")
        if self.gain is not None and not 0 < self.gain < math.inf:
            raise CallError(f"a gain of {self.gain:g}; it must be a number above 0")
        if self.slope_db_per_bpp is not None and not 0 <= self.slope_db_per_bpp < math.inf:
            raise CallError(f"a slope of {self.slope_db_per_bpp:g} dB per bit and pixel; it must be a number from 0 up")
        if self.storage not in STORAGES:
            raise unknown_name("storage", self.storage, STORAGES, f"choose one of {', '.join(STORAGES)}")
        if self.slope_db_per_bpp is not None and self.storage == "raw":
            raise CallError(
                f"a slope of {self.slope_db_per_bpp:g} dB for codes that are stored raw, which take the same bytes at "
                "any gain; omit it, or choose storage archive"
            )
        if self.num_curve_signals < 1:
            raise CallError(f"a curve of {self.num_curve_signals} signals; it needs at least 1")

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
        """Return the figure of merit in dB, whose maximum chooses the gain.

        It is the PSNR for raw storage; for archives its maximum is where the curve has the slope `slope_db_per_bpp`.
        """
        if self.storage == "raw":
            return point.psnr_db
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
    count = config.latent_channels
    sample = Reservoir(config.num_curve_signals, config.seed)
    # Measuring a signal of the curve at one gain takes about as long as its moments.
    num_measured = config.num_curve_signals * (1 if config.gain else len(GAINS) // 2)
    moments, num_signals = measure_moments(
        signals,
        config,
        observe_signal=lambda signal: sample.offer(center_crop(signal, 2**config.levels, CURVE_CROP[config.kind])),
        choose_threads_for=num_expected and num_expected + num_measured,
    )
    weights = signal_weights(config.kind, config.channels, config.levels)
    directions, kept = principal_directions(moments, weights, count)
    curve: list[CurvePoint] = []
    for gain in GAINS if config.gain is None else [config.gain]:
        curve.append(measure_point(_assemble(config, directions, moments.mean(), gain), sample.items, gain))
        if len(curve) > 2 and config.merit(curve[-1]) < config.merit(curve[-2]) < config.merit(curve[-3]):
            break  # the curve is concave, so larger gains are worse
    chosen = max(curve, key=config.merit)
    num_points, threads = moments.num_positions * config.points_per_position, torch.get_num_threads()
    report = FitReport(num_signals, num_points, kept, chosen, tuple(curve), threads)
    return _assemble(config, directions, moments.mean(), chosen.gain, _fit_info(config, report)), report


def _fit_info(config: FitConfig, report: FitReport) -> dict[str, Any]:
    """Return the description of the fit for `config.json`."""
    return {
        "method": "closed-form",
        "storage": config.storage,
        "gain": report.chosen.gain,
        "kept_energy": round(report.kept_energy, 6),
        **config.describe(report.num_signals, report.num_points),
    }


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
