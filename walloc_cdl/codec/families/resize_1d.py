"""Resolution reduction of audio as a codec: resampling by an integer factor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.codec.config import MAX_CHANNELS, CodecConfig, require_between, require_name
from walloc_cdl.codec.families.resampling import ResamplingCodec

MAX_FACTOR = 4_096
REACH = 10
"""Reach of the filter to each side, in stored samples."""
KAISER_BETA = 5.0


@dataclass(frozen=True)
class ResizeConfig1D(CodecConfig):
    """Configuration of a `ResizeCodec1D`."""

    channels: int = 1
    factor: int = 4
    """Source samples for each stored sample."""
    name: str = "resize-1d"
    sample_rate: int | None = None
    """Sample rate of the source in Hz; None for any."""

    type: ClassVar[str] = "resize-1d"
    always_written: ClassVar[tuple[str, ...]] = ("channels", "factor", "name")

    def __post_init__(self) -> None:
        require_between(self.channels, 1, MAX_CHANNELS, "channels to resample")
        require_between(self.factor, 1, MAX_FACTOR, "as the factor to resample by")
        require_name(self.name)
        if self.sample_rate is not None:
            require_between(self.sample_rate, 1, 100_000_000, "Hz as sample_rate")


class ResizeCodec1D(ResamplingCodec):
    """Resamples audio to a lower rate and stores each sample as a byte; silence is byte 128, which is 1/510 off zero.

    Both directions use the same windowed sinc and assume silence beyond the ends; in float64 they equal
    `scipy.signal.resample_poly` with its defaults. The companding is `none`.

    >>> ResizeCodec1D(ResizeConfig1D(channels=2, factor=4)).encode(torch.zeros(1, 2, 4096)).shape
    torch.Size([1, 2, 1024])
    """

    config_class = ResizeConfig1D
    reach = REACH + 1

    def __init__(self, config: ResizeConfig1D) -> None:
        super().__init__(
            name=config.name,
            kind="audio",
            source_channels=config.channels,
            latent_channels=config.channels,
            stride=config.factor,
            bits=8,
            companding="none",
            sample_rate=config.sample_rate,
        )
        self.config = config
        self.eval()

    def latents(self, signal: Tensor) -> Tensor:
        """Return the resampled signal before rounding, in units of 1/255 from 0 to 255."""
        self._check_signal(signal)
        dtype = torch.float64 if signal.dtype == torch.float64 else torch.float32
        return ((self._down(to_unit_range(signal, dtype)) + 0.5) * 255).clamp(0, 255)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the stored signal at the rate of the source, (B, C, T), in [-0.5, 0.5]."""
        self.check_codes(codes)
        return self._up(self.values(codes)).clamp(-0.5, 0.5)

    def encoder_id(self) -> str:
        """Return the codec id; see `Codec.encoder_id`."""
        config = self.config
        side = {
            "type": "resize-1d",
            "filter": f"sinc-kaiser-{KAISER_BETA:g}-{REACH}",
            "channels": config.channels,
            "factor": config.factor,
        }
        return sha256_hex(canonical_json(side))

    def decoder_id(self) -> str:
        """Return the id of the decoding side; see `Codec.decoder_id`."""
        return sha256_hex(f"sinc-kaiser-{KAISER_BETA:g}-{REACH}".encode())

    def _down(self, signal: Tensor) -> Tensor:
        if self.config.factor == 1:
            return signal
        rows, taps, reach = self._rows_and_taps(signal)
        return conv1d(rows, taps, stride=self.config.factor, padding=reach).reshape(*signal.shape[:2], -1)

    def _up(self, signal: Tensor) -> Tensor:
        factor = self.config.factor
        if factor == 1:
            return signal
        rows, taps, reach = self._rows_and_taps(signal)
        upsampled = conv_transpose1d(rows, factor * taps, stride=factor, padding=reach, output_padding=factor - 1)
        return upsampled.reshape(*signal.shape[:2], -1)

    def _rows_and_taps(self, signal: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the channels as (B · C, 1, T), the filter (1, 1, taps), and its reach in source samples."""
        taps = torch.tensor(resampling_filter(self.config.factor), dtype=signal.dtype, device=signal.device)
        return signal.reshape(-1, 1, signal.shape[-1]), taps.reshape(1, 1, -1), len(taps) // 2


@lru_cache(maxsize=16)
def resampling_filter(factor: int) -> np.ndarray:
    """Return a low-pass filter at the Nyquist frequency of the lower rate, float64 (20 · factor + 1,), with sum 1.

    It is a sinc with a Kaiser window of beta 5, the default of `scipy.signal.resample_poly`.
    """
    reach = REACH * factor
    taps = np.sinc(np.arange(-reach, reach + 1) / factor) * np.kaiser(2 * reach + 1, KAISER_BETA)
    taps /= taps.sum()
    taps.flags.writeable = False
    return taps
