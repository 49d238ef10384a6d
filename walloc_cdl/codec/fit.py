"""A codec in closed form: principal components of the packet coefficients, streamed over images.

The encoder keeps the K directions of largest variance, all with one gain g:

    z = g Uᵀ W (x − μ),   x̂ = μ + W⁻¹ U z / g,

x the C · 4^J packet coefficients at one position, μ their mean, W the diagonal of √energy of each
band's synthesis function (so that what is kept is pixel energy, not coefficient energy: worth about
0.1 dB with 12 channels and 0.15 dB with 48 on photographs), U the leading eigenvectors of the
covariance of W x. Rounding z costs 1 / (12 g²) of variance a channel; a larger gain buys quality
with rate. The gain taken is where the rate–distortion curve's slope falls to `slope_db_per_bpp`.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.base import to_bytes, to_unit_range
from walloc_cdl.codec.walloc import WallocCodec2D, WallocConfig
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.kernels.filters import band_energy, band_order
from walloc_cdl.kernels.packets import packet_analysis

MAX_COEFFICIENTS = 4096
"""Packet coefficients at one position: their covariance takes the square of it in doubles, 134 MB, and its
eigenvectors about a minute on two cores."""

CURVE_CROP = 256
"""Largest side, in pixels, of the center crops on which the rate–distortion curve is measured."""


@dataclass(frozen=True)
class CurvePoint:
    """Quality and rate of one gain on the sample: decibels, and bits per pixel by each channel's entropy."""

    gain: float
    psnr_db: float
    bpp: float


@dataclass(frozen=True)
class FitConfig:
    """What `fit_codec` is to make."""

    channels: int = 3
    reduction: float = 16.0
    """Source values for each latent value."""
    components: int | None = None
    """K, where no whole reduction gives it; it then counts instead of `reduction`."""
    levels: int = 3
    bits: int = 8
    name: str = "fitted"
    gain: float | None = None
    """None: chosen on the rate–distortion curve."""
    slope_db_per_bpp: float | None = None
    """The decibels that one more bit per pixel must be worth; None is 1, or 3 / C beyond three channels, where a
    pixel has more values: the same for each value as with RGB."""
    num_curve_images: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.reduction >= 1:
            raise CallError(f"a reduction of {self.reduction:g}; it must be at least 1")
        if not 1 <= self.levels <= 5:
            raise CallError(f"{self.levels} wavelet levels; expected 1 to 5")
        if self.gain is not None and not 0 < self.gain < math.inf:
            raise CallError(f"a gain of {self.gain:g}; it must be a number above 0")
        if self.slope_db_per_bpp is not None and not 0 <= self.slope_db_per_bpp < math.inf:
            raise CallError(f"a slope of {self.slope_db_per_bpp:g} dB per bit and pixel; it must be a number from 0 up")
        if self.num_curve_images < 1:
            raise CallError(f"a curve of {self.num_curve_images} images; it needs at least 1")

    @property
    def num_coefficients(self) -> int:
        """Packet coefficients at one position, C · 4^J."""
        return self.channels * 4**self.levels

    @property
    def latent_channels(self) -> int:
        """K; raises `CallError` for a reduction that no whole K gives, or a K beyond the coefficients."""
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
                f"{exact:.3g} latent channels; it must be a whole number of at least 1, as for {self._near()}"
            )
        return round(exact)

    def _near(self) -> str:
        """Whole reductions near the one asked for that give a whole K."""
        whole = [count for count in range(1, self.num_coefficients + 1) if self.num_coefficients % count == 0]
        nearest = sorted(sorted(whole, key=lambda count: abs(math.log(count / self.reduction)))[:3])
        return " or ".join(filter(None, [", ".join(map(str, nearest[:-1])), str(nearest[-1])]))

    def merit(self, point: CurvePoint) -> float:
        """What the chosen gain maximizes, in dB: where the curve has the slope `slope_db_per_bpp`."""
        slope = min(1.0, 3 / self.channels) if self.slope_db_per_bpp is None else self.slope_db_per_bpp
        return point.psnr_db - slope * point.bpp


@dataclass(frozen=True)
class FitReport:
    """What a fit saw and found."""

    num_images: int
    num_pixels: int
    kept_energy: float
    """Share of the variance of the pixels in the K components, before rounding."""
    chosen: CurvePoint
    curve: tuple[CurvePoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


class PacketMoments:
    """Mean and covariance of the packet coefficients of any number of images, in constant memory.

    Holds (C · 4^J)² doubles: 0.3 MB for RGB, 2 MB for 8 channels at three levels.
    """

    def __init__(self, channels: int, levels: int) -> None:
        size = channels * 4**levels
        self.levels, self.num_positions = levels, 0
        self._sum = torch.zeros(size, dtype=torch.float64)
        self._products = torch.zeros(size, size, dtype=torch.float64)

    @torch.no_grad()
    def update(self, image: Tensor) -> None:
        """Add one image (C, H, W), uint8 or float in [-0.5, 0.5], with sides that are multiples of 2^levels."""
        x = packet_analysis(to_unit_range(image[None]), self.levels)[0].flatten(1)
        self.num_positions += x.shape[1]
        self._sum += x.sum(1).double()
        self._products += (x @ x.T).double()

    def mean(self) -> Tensor:
        """Float64 (C · 4^J,)."""
        return self._sum / self.num_positions

    def covariance(self) -> Tensor:
        """Float64 (C · 4^J, C · 4^J)."""
        mean = self.mean()
        return self._products / self.num_positions - mean[:, None] * mean[None]


def pixel_weights(channels: int, levels: int) -> Tensor:
    """The diagonal of W above: float64 (C · 4^J,) in the published channel order."""
    one_axis = band_energy(levels)
    both = np.outer(one_axis, one_axis).reshape(-1)[band_order(levels)]
    return torch.from_numpy(np.sqrt(np.tile(both, channels)))


def fit_codec(images: Iterable[Tensor], config: FitConfig) -> tuple[WallocCodec2D, FitReport]:
    """Fit a codec in one pass over images (C, H, W) of any size; deterministic for the same order.

    Images are uint8, or float in [-0.5, 0.5], and cropped to multiples of the stride; smaller ones are
    skipped. Raises `CallError` for a wrong channel count or reduction and for more than
    `MAX_COEFFICIENTS`, `JobError` when there are too few pixels to fit from.
    """
    latent_channels, stride = config.latent_channels, 2**config.levels
    _require_size(config)
    moments = PacketMoments(config.channels, config.levels)
    sample = _Reservoir(config.num_curve_images, config.seed)
    num_images = 0
    for image in images:
        if image.shape[0] != config.channels:
            raise CallError(f"an image of {image.shape[0]} channels; this codec is fitted to {config.channels}")
        height, width = (side // stride * stride for side in image.shape[1:])
        if min(height, width) < stride:
            continue
        moments.update(image[:, :height, :width])
        sample.offer(_center_crop(image, stride))
        num_images += 1
    if moments.num_positions <= config.channels * 4**config.levels:
        raise JobError(
            f"{num_images} usable images with {moments.num_positions} positions of {stride}x{stride} pixels are too "
            f"few for {config.channels * 4**config.levels} coefficients; give more or larger images, or fewer levels"
        )
    directions, kept = _principal_directions(moments, config, latent_channels)
    curve: list[CurvePoint] = []
    for gain in _gains(config):
        codec = _assemble(config, latent_channels, directions, moments.mean(), gain)
        curve.append(_measure(codec, sample.items, gain))
        if len(curve) > 2 and config.merit(curve[-1]) < config.merit(curve[-2]) < config.merit(curve[-3]):
            break  # the curve is concave: past its best gain for good
    chosen = max(curve, key=config.merit)
    report = FitReport(num_images, moments.num_positions * stride**2, kept, chosen, tuple(curve))
    story = {
        "method": "closed-form",
        "gain": chosen.gain,
        "kept_energy": round(kept, 6),
        "num_images": num_images,
        "num_pixels": report.num_pixels,
        "seed": config.seed,
    }
    return _assemble(config, latent_channels, directions, moments.mean(), chosen.gain, story), report


def _require_size(config: FitConfig) -> None:
    count = config.num_coefficients
    if count > MAX_COEFFICIENTS:
        fewer = max((levels for levels in range(1, 6) if config.channels * 4**levels <= MAX_COEFFICIENTS), default=0)
        remedy = f"take --levels {fewer}" if fewer else "take fewer channels"
        raise CallError(
            f"{config.channels} channels at {config.levels} levels are {count:,} coefficients, whose covariance "
            f"takes {8 * count**2 / 1e9:.2g} GB; at most {MAX_COEFFICIENTS:,} are fitted, so {remedy}"
        )


class _Reservoir:
    """A uniform seeded sample of a stream of unknown length (algorithm R, Vitter 1985)."""

    def __init__(self, size: int, seed: int) -> None:
        self.items: list[Tensor] = []
        self._size, self._seen, self._random = size, 0, random.Random(seed)

    def offer(self, item: Tensor) -> None:
        self._seen += 1
        if len(self.items) < self._size:
            self.items.append(item.clone())
        elif (slot := self._random.randrange(self._seen)) < self._size:
            self.items[slot] = item.clone()


def _center_crop(image: Tensor, stride: int) -> Tensor:
    height, width = (min(side, CURVE_CROP) // stride * stride for side in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def _principal_directions(
    moments: PacketMoments, config: FitConfig, latent_channels: int
) -> tuple[tuple[Tensor, Tensor], float]:
    """(analysis (K, C·4^J), synthesis (C·4^J, K)) for a gain of 1, and the share of variance kept."""
    weights = pixel_weights(config.channels, config.levels)
    variances, vectors = torch.linalg.eigh(moments.covariance() * weights[:, None] * weights[None])
    leading = vectors.flip(1)[:, :latent_channels]
    # An eigenvector's sign is arbitrary and differs between LAPACK builds; make the largest entry positive.
    largest = leading.gather(0, leading.abs().argmax(0, keepdim=True))
    leading = leading * largest.sign()
    kept = float(variances.flip(0)[:latent_channels].sum() / variances.sum())
    return (leading.T * weights, leading / weights[:, None]), kept


def _gains(config: FitConfig) -> list[float]:
    if config.gain is not None:
        return [config.gain]
    return [2 ** (step / 4) for step in range(4, 25)]  # from 2 to 64, ascending


def _assemble(
    config: FitConfig,
    latent_channels: int,
    directions: tuple[Tensor, Tensor],
    mean: Tensor,
    gain: float,
    story: dict[str, Any] | None = None,
) -> WallocCodec2D:
    codec = WallocCodec2D(
        WallocConfig(config.channels, config.levels, latent_channels, config.bits, config.name, story or {})
    )
    analysis, synthesis = directions
    with torch.no_grad():
        codec.encoder[0].weight.copy_((gain * analysis)[:, :, None, None])
        codec.encoder[0].bias.copy_(-gain * (analysis @ mean))
        codec.decoder[1].weight.copy_((synthesis / gain)[:, :, None, None])
        codec.decoder[1].bias.copy_(mean)
    return codec


def _measure(codec: WallocCodec2D, crops: list[Tensor], gain: float) -> CurvePoint:
    """Mean PSNR of clamped output (8 bits for 8-bit crops) and order-0 entropy of each channel, over the sample."""
    psnrs, rates = [], []
    for crop in crops:
        codes = codec.encode(crop[None])
        decoded, peak = codec.decode(codes), 1.0
        if crop.dtype == torch.uint8:
            decoded, peak = to_bytes(decoded), 255.0
        error = (decoded[0].double() - crop.double()).square().mean()
        psnrs.append(float(10 * torch.log10(peak**2 / error.clamp_min(1.5e-9 * peak**2))))
        counts = torch.stack([torch.bincount(channel.flatten().long(), minlength=256) for channel in codes[0]])
        share = counts / counts.sum(1, keepdim=True)
        entropy = -(share * share.clamp_min(1e-30).log2()).sum(1)
        rates.append(float(entropy.sum()) / codec.stride**2)
    return CurvePoint(gain, float(np.mean(psnrs)), float(np.mean(rates)))
