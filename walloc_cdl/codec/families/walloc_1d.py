"""WaLLoC for audio: mono, stereo or any number of channels.

Why the codec defines the shape of its latents: the published audio codecs pad one frame at each end, before the light
encoder and inside the Oobleck encoder, so that a latent is two frames longer than T / 2^J. A linear codec fitted by
this package pads none, since those frames hold no signal (`padding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.codec.config import require_between, require_bool
from walloc_cdl.codec.families.networks.oobleck import OobleckDecoder, OobleckEncoder
from walloc_cdl.codec.families.walloc import WallocCodec, WallocConfig, bottleneck
from walloc_cdl.codec.packets import AnalysisLevel1D, SynthesisLevel1D
from walloc_cdl.codec.weights import tensors_to_bytes
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.packets_1d import packet_analysis_1d, packet_synthesis_1d

POST_FILTER_TAPS = 129
MAX_SAMPLE_RATE = 100_000_000


@dataclass(frozen=True)
class WallocConfig1D(WallocConfig):
    """Configuration of a `WallocCodec1D`."""

    channels: int = 1
    levels: int = 8
    latent_channels: int = 16
    name: str = "walloc-1d"
    padding: int = 0
    """Frames of silence that the encoder sees before and after the signal, so that a latent is twice as many frames
    longer than T / 2^J. The published codecs have 1, which their networks require. In a linear codec those frames carry
    no information, so it has 0 unless it must equal a published encoder."""
    post_filter: bool = False
    """Whether a convolution of 129 taps over all channels follows the synthesis."""
    sample_rate: int | None = None
    """Sample rate in Hz; None if the codec is not specific to one."""

    type: ClassVar[str] = "walloc-1d"
    dimensions: ClassVar[int] = 1
    max_levels: ClassVar[int] = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self.padding, 0, 1, "frames of padding")
        require_bool(self.post_filter, "post_filter")
        if self.sample_rate is not None:
            require_between(self.sample_rate, 1, MAX_SAMPLE_RATE, "Hz as sample_rate")
        for name in ("encoder_width", "decoder_width"):
            width = getattr(self, name)
            if width is not None and width < self.latent_channels:
                raise CallError(f"{name} {width} is below the {self.latent_channels} latent channels; widen it")
            if width is not None and self.padding != 1:
                raise CallError(f"padding {self.padding} with a network; the Oobleck networks require 1")


class WallocCodec1D(WallocCodec):
    """Audio codec, (B, C, T) to (B, K, t) with t = T / 2^J + 2 · padding.

    >>> codec = WallocCodec1D(WallocConfig1D(channels=2, levels=8, latent_channels=108))
    >>> codec.encode(torch.zeros(1, 2, 4096)).shape
    torch.Size([1, 108, 16])
    """

    config_class = WallocConfig1D

    def __init__(self, config: WallocConfig1D) -> None:
        super().__init__(config, kind="audio", extra_frames=2 * config.padding, sample_rate=config.sample_rate)
        self.wt, self.iwt = AnalysisLevel1D(), SynthesisLevel1D()
        bands, latents = config.num_bands, config.latent_channels
        if config.encoder == "light":
            encoder: nn.Module = nn.Conv1d(bands, latents, kernel_size=1, padding=config.padding)
        else:
            encoder = OobleckEncoder(bands, latents, config.encoder_width)
        if config.decoder == "linear":
            decoder: nn.Module = TrimmedConv1d(latents, bands, config.padding)
        else:
            decoder = OobleckDecoder(latents, bands, config.decoder_width)
        self.encoder, self.decoder = bottleneck(config, encoder, decoder)
        if config.post_filter:
            self.filter_reach = POST_FILTER_TAPS // 2
            self.post = nn.Conv1d(config.channels, config.channels, POST_FILTER_TAPS, padding=self.filter_reach)
        self.eval()

    def wavelet_analysis(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Return packet coefficients (B, C · 2^J, T / 2^J) of audio in [-0.5, 0.5], in the published order."""
        return packet_analysis_1d(x, levels or self.config.levels)

    def wavelet_synthesis(self, coefficients: Tensor, levels: int | None = None) -> Tensor:
        """Return the audio of packet coefficients, the inverse of `wavelet_analysis`."""
        return packet_synthesis_1d(coefficients, levels or self.config.levels)

    def decoder_id(self) -> str:
        """Return the id of the decoding side, which includes the post filter; see `Codec.decoder_id`."""
        decoder = super().decoder_id()
        return sha256_hex(decoder.encode() + tensors_to_bytes(self.post)) if self.config.post_filter else decoder

    def _encoding_side(self) -> dict[str, object]:
        return {**super()._encoding_side(), "frame_padding": self.config.padding}

    @torch.no_grad()
    def encode(self, signal: Tensor) -> Tensor:
        """Return stored codes; see `Codec.encode`."""
        codes, frames = super().encode(signal), self.config.padding
        if not frames or codes.shape[2] > signal.shape[2] // self.stride:
            return codes
        # The compiled path encodes the frames of the signal only. The output of the layer for silence is its bias.
        silence = self._quantize(self._before_rounding(self.encoder[0].bias.detach()[None, :, None]))
        padding = silence.expand(len(codes), -1, frames)
        return torch.cat([padding, codes, padding], dim=2)

    def _unpadded_codes(self, signal: Tensor) -> Tensor:
        frames = self.config.padding
        return super()._unpadded_codes(signal)[..., frames : frames + signal.shape[2] // self.stride]

    def filter(self, signal: Tensor) -> Tensor:
        """Apply the post filter, if there is one; it assumes silence beyond the ends of the signal."""
        return self.post(signal) if self.config.post_filter else signal


class TrimmedConv1d(nn.Conv1d):
    """The linear decoder: a convolution with kernel size 1 that removes `trim` frames without signal at each end."""

    def __init__(self, in_channels: int, out_channels: int, trim: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)
        self.trim = trim

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, K, t) to (B, bands, t - 2 · trim)."""
        return super().forward(x[..., self.trim : x.shape[-1] - self.trim])
