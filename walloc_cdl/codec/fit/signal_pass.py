"""One pass over the signals that a codec is fitted to: the moments of their packet coefficients, and what else is seen.

Why fits stop at 4,096 coefficients: the covariance of 198 channels at three levels is 12,672², which takes 1.3 GB, and
its eigenvectors take 64 times as long as at two levels; one level suffices where the redundancy is between the bands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from walloc_cdl.codec.fit.moments import PacketMoments, num_bands
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.threads import choose_threads

MAX_COEFFICIENTS = 4096
"""Maximum number of packet coefficients at one position. Their covariance takes 134 MB in doubles, and its eigenvectors
about a minute on two cores."""

PIECE_SAMPLES = 2**25
"""Audio samples that are transformed at a time: 12 minutes at 44.1 kHz, a multiple of every stride."""

MAX_LEVELS = {"image": 5, "audio": 12}


@dataclass(frozen=True)
class SignalFit:
    """What every fit to signals has to know of them and of the packet transform."""

    kind: str = "image"
    """`image` or `audio`."""
    channels: int = 3
    levels: int = 3
    sample_rate: int | None = None
    """Sample rate in Hz, for audio."""
    name: str = "fitted"
    seed: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    """Further entries of what the codec's `config.json` says of the fit, such as how the signals were prepared."""

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MAX_LEVELS[self.kind]:
            raise CallError(f"{self.levels} wavelet levels; expected 1 to {MAX_LEVELS[self.kind]} for {self.kind}")

    @property
    def num_coefficients(self) -> int:
        """Packet coefficients at one position: C · 4^J of an image, C · 2^J of audio."""
        return self.channels * num_bands(self.kind, self.levels)

    @property
    def points_per_position(self) -> int:
        """Pixels, or time steps of audio, for each position of the latent grid."""
        return num_bands(self.kind, self.levels)

    def require_size(self) -> None:
        """Raise `CallError` for more than `MAX_COEFFICIENTS`."""
        count = self.num_coefficients
        if count > MAX_COEFFICIENTS:
            possible = range(1, self.levels)
            fewer = [n for n in possible if self.channels * num_bands(self.kind, n) <= MAX_COEFFICIENTS]
            remedy = f"take --levels {fewer[-1]}" if fewer else "take fewer channels"
            raise CallError(
                f"{self.channels} channels at {self.levels} levels are {count:,} coefficients, whose covariance "
                f"takes {8 * count**2 / 1e9:.2g} GB; at most {MAX_COEFFICIENTS:,} are fitted, so {remedy}"
            )

    def describe(self, num_signals: int, num_points: int) -> dict[str, Any]:
        """Return what a codec's `config.json` says of the signals that it was fitted to."""
        signals, points = ("num_images", "num_pixels") if self.kind == "image" else ("num_clips", "num_samples")
        return {signals: num_signals, points: num_points, "seed": self.seed, **self.notes}


def measure_moments(
    signals: Iterable[Tensor],
    config: SignalFit,
    *,
    observe_signal: Callable[[Tensor], object],
    observe_coefficients: Callable[[Tensor], object] | None = None,
    choose_threads_for: int = 0,
) -> tuple[PacketMoments, int]:
    """Return the moments of the packet coefficients of signals, and the number of signals that were used.

    Signals, (C, H, W) or (C, T), are cropped to multiples of the stride, and skipped if they are smaller. Each one that
    is used is given to `observe_signal`, and its coefficients, float32 (C · bands, positions), to
    `observe_coefficients`, piece by piece. If `choose_threads_for` is a number of signals that is to be expected, the
    number of torch's threads becomes the one that is fastest for so many. Raises `CallError` for other numbers of
    channels, and `JobError` for fewer positions than coefficients.
    """
    config.require_size()
    stride = 2**config.levels
    moments = PacketMoments(config.kind, config.channels, config.levels)
    num_signals = 0
    for signal in signals:
        if signal.shape[0] != config.channels:
            signal_name = "an image" if config.kind == "image" else "a clip"
            raise CallError(f"{signal_name} of {signal.shape[0]} channels; this codec is fitted to {config.channels}")
        if min(signal.shape[1:]) < stride:
            continue
        pieces = _pieces(_cropped(signal, stride), config.kind)
        if choose_threads_for and not num_signals:
            torch.set_num_threads(_fastest_threads(config, pieces[0], choose_threads_for))
        for piece in pieces:
            coefficients = moments.update(piece)
            if observe_coefficients is not None:
                observe_coefficients(coefficients)
        observe_signal(signal)
        num_signals += 1
    if moments.num_positions <= config.num_coefficients:
        raise JobError(
            f"{num_signals} usable signals with {moments.num_positions} positions at stride {stride} are too few for "
            f"{config.num_coefficients} coefficients; give more or larger ones, or fewer levels"
        )
    return moments, num_signals


def _fastest_threads(config: SignalFit, piece: Tensor, num_signals: int) -> int:
    """Return the number of threads with which the moments of a signal like `piece` are computed fastest now."""
    trial = PacketMoments(config.kind, config.channels, config.levels)
    return choose_threads(lambda: trial.update(piece), num_signals)


def _cropped(signal: Tensor, stride: int) -> Tensor:
    """Crop the signal at its end, so that each side is a multiple of the stride."""
    return signal[(slice(None), *(slice(side // stride * stride) for side in signal.shape[1:]))]


def _pieces(signal: Tensor, kind: str) -> tuple[Tensor, ...]:
    """Split audio into pieces of at most `PIECE_SAMPLES`, so that memory is bounded; images stay whole."""
    return signal.split(PIECE_SAMPLES, dim=1) if kind == "audio" else (signal,)
