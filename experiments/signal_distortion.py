"""How well a codec keeps arrays of many channels and audio, and in how many bits: `cdl codec eval`.

Signals are float in [-0.5, 0.5], so that decibels are of a range of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from walloc_cdl.codec import Codec
from walloc_cdl.errors import JobError
from walloc_cdl.latents import code_histogram
from walloc_cdl.latents.archive import archive_to_bytes, default_container, find_container

MIN_ERROR = 1e-15
"""Mean squared errors below count as this one, so that silence kept exactly is 150 dB and not infinite."""


PIECE_SAMPLES = 2**21
"""Clips are encoded in pieces of about so many samples, 48 s at 44.1 kHz, so that memory does not grow with their
length."""


@dataclass(frozen=True)
class ArrayDistortion:
    """Means over arrays; quality is that of the clamped output, rate that of whole archive files."""

    num_arrays: int
    psnr_db: float
    bpp: float
    """Archive bits for each pixel of the source."""
    bits_per_value: float
    """The same for each channel of a pixel."""
    reduction: float
    """Source values for each latent value."""
    container: str

    def to_json(self) -> dict[str, float | int | str]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class AudioDistortion:
    """Means over clips; quality is that of the clamped output."""

    num_clips: int
    psnr_db: float
    """The signal's range of 1 over the error."""
    snr_db: float
    """The signal's own energy over that of the error; silent clips have none and are left out."""
    bits_per_sample: float
    """Order-0 entropy of the codes, each latent channel by itself over all clips, for each source value."""
    reduction: float
    """Source values for each latent value, extra frames included."""

    def to_json(self) -> dict[str, float | int | str]:
        """Plain values."""
        return asdict(self)


def measure_arrays(
    codec: Codec,
    arrays: Iterable[torch.Tensor],
    *,
    container: str | None = None,
    on_signal: Callable[[], object] | None = None,
) -> ArrayDistortion:
    """Encode, archive and decode float arrays (C, H, W) with sides on the codec's stride, one at a time.

    `container` is that of `default_container` unless it is named. `on_signal` is called after each array.
    Raises `JobError` when there is none.
    """
    spec = codec.spec
    chosen = find_container(container) if container else default_container(spec.kind)
    psnrs, rates = [], []
    for array in arrays:
        codes = codec.encode(array[None])
        psnrs.append(decibels(1.0, mean_squared_error(codec, codes, array)))
        data = archive_to_bytes(
            codes[0].cpu().numpy(), spec, signal_shape=tuple(array.shape), container=chosen.name, codec=codec.name
        )
        rates.append(8 * len(data) / (array.shape[1] * array.shape[2]))
        if on_signal:
            on_signal()
    if not psnrs:
        raise JobError("no array to measure on; name arrays at least as large as the codec's stride")
    return ArrayDistortion(
        num_arrays=len(psnrs),
        psnr_db=float(np.mean(psnrs)),
        bpp=float(np.mean(rates)),
        bits_per_value=float(np.mean(rates)) / spec.source_channels,
        reduction=spec.reduction(),
        container=chosen.name,
    )


def measure_audio(
    codec: Codec, clips: Iterable[torch.Tensor], *, on_signal: Callable[[], object] | None = None
) -> AudioDistortion:
    """Encode and decode float clips (C, T), T on the codec's stride, one at a time, long ones in pieces.

    `on_signal` is called after each. Raises `JobError` when there is none.
    """
    psnrs, ratios, num_values = [], [], 0
    piece_samples = max(PIECE_SAMPLES // codec.spec.stride, 1) * codec.spec.stride
    histogram = np.zeros((codec.spec.latent_channels, 256), np.int64)
    for clip in clips:
        error = energy = 0.0
        for piece in clip.split(piece_samples, dim=1):
            codes = codec.encode(piece[None])
            error += mean_squared_error(codec, codes, piece) * piece.numel() / clip.numel()
            energy += float(piece.double().square().sum()) / clip.numel()
            histogram += code_histogram(codes.cpu().numpy(), len(histogram))
        psnrs.append(decibels(1.0, error))
        if energy > 0:
            ratios.append(decibels(energy, error))
        num_values += clip.numel()
        if on_signal:
            on_signal()
    if not psnrs:
        raise JobError("no clip to measure on; name a folder with clips at least as long as the codec's stride")
    if not ratios:
        raise JobError("all clips are silent, so there is no signal to measure the error against; give others")
    return AudioDistortion(
        num_clips=len(psnrs),
        psnr_db=float(np.mean(psnrs)),
        snr_db=float(np.mean(ratios)),
        bits_per_sample=entropy_bits(histogram) / num_values,
        reduction=num_values / int(histogram.sum()),
    )


def mean_squared_error(codec: Codec, codes: torch.Tensor, signal: torch.Tensor) -> float:
    """Of the decoded codes (1, K, …) against a signal (C, …)."""
    return float((codec.decode(codes)[0].double() - signal.double()).square().mean())


def decibels(power: float, error: float) -> float:
    """10 log10 of a power over an error."""
    return float(10 * np.log10(power / max(error, MIN_ERROR)))


def entropy_bits(histogram: np.ndarray) -> float:
    """Bits that a memoryless code of each channel takes for all counted bytes: int64 (K, 256)."""
    counts = histogram.astype(np.float64)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return float(-(counts * np.log2(np.where(share > 0, share, 1))).sum())
