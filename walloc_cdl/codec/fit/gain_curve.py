"""The rate–distortion curve over gains, measured on a sample of the signals that a codec is fitted to."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.base import Codec, to_bytes

CURVE_CROP = {"image": 256, "audio": 2**17}
"""Largest side, in pixels or samples, of the center crops on which the curve is measured."""

GAINS = tuple(2 ** (step / 4) for step in range(4, 33))
"""Candidate gains from 2 to 256, ascending."""

MIN_ERROR = 1e-4 / 255**2
"""Smallest mean squared error, relative to the squared range; smaller errors count as this one, 88 dB."""


@dataclass(frozen=True)
class CurvePoint:
    """Quality and rate of one gain on the sample.

    PSNR is relative to the range of the signal. The rate is the sum of the channels' entropies in bits per pixel, or
    per time step of audio.
    """

    gain: float
    psnr_db: float
    bpp: float


class Reservoir:
    """A uniform seeded sample of a stream of unknown length (algorithm R, Vitter 1985)."""

    def __init__(self, size: int, seed: int) -> None:
        self.items: list[Tensor] = []
        self._size, self._seen, self._random = size, 0, random.Random(seed)

    def offer(self, item: Tensor) -> None:
        """Process the next item of the stream, which may enter the sample."""
        self._seen += 1
        if len(self.items) < self._size:
            self.items.append(item.clone())
        elif (slot := self._random.randrange(self._seen)) < self._size:
            self.items[slot] = item.clone()


def center_crop(signal: Tensor, stride: int, limit: int) -> Tensor:
    """Return the center of a signal (C, …), each side a multiple of the stride and at most `limit`."""
    for axis, side in enumerate(signal.shape[1:], start=1):
        cropped = min(side, limit) // stride * stride
        signal = signal.narrow(axis, (side - cropped) // 2, cropped)
    return signal


def measure_point(codec: Codec, crops: list[Tensor], gain: float) -> CurvePoint:
    """Return the mean PSNR of the clamped output, rounded to 8 bits for 8-bit crops, and the mean entropy rate."""
    psnrs, rates = [], []
    for crop in crops:
        codes = codec.encode(crop[None])
        decoded, peak = codec.decode(codes), 1.0
        if crop.dtype == torch.uint8:
            decoded, peak = to_bytes(decoded), 255.0
        error = (decoded[0].double() - crop.double()).square().mean() / peak**2
        psnrs.append(float(-10 * torch.log10(error.clamp_min(MIN_ERROR))))
        rates.append(_entropy_bits(codes[0]) / crop[0].numel())
    return CurvePoint(gain, float(np.mean(psnrs)), float(np.mean(rates)))


def _entropy_bits(codes: Tensor) -> float:
    """Return the bits of codes (K, …) with an ideal memoryless code for each channel."""
    counts = torch.stack([torch.bincount(channel.flatten().long(), minlength=256) for channel in codes])
    frequencies = counts / counts.sum(1, keepdim=True)
    entropy = -(frequencies * frequencies.clamp_min(1e-30).log2()).sum(1)
    return float(entropy.sum()) * codes[0].numel()
