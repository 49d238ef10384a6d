"""The stages of a wavelet packet codec as separate methods, for callers that cut a signal between them."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from walloc_cdl.codec.base import Codec


class PacketCodec(Codec):
    """A codec with a periodic wavelet packet transform, which maps signals to coefficients on the latent grid.

    `encode` is `analyze` and `encode_coefficients`; `decode` is `decode_coefficients`, `wavelet_synthesis`, `filter`
    and `clamp`. The receptive field of each stage is known, so that `walloc_cdl.codec.tiles` can provide its
    surroundings: less than four latents to each side for the transform, which extends the signal periodically;
    `encoder_reach` and `decoder_reach` latents for encoder and decoder, and `filter_reach` samples for the filter, all
    of which see zeros beyond the ends.
    """

    levels: int
    """Wavelet levels, J; the stride is 2^J."""
    clamp: nn.Module
    """Clamps the values of a signal to [-0.5, 0.5]."""
    filter_reach: int = 0
    """Samples to each side in the receptive field of `filter`."""

    @property
    @abstractmethod
    def encoder_reach(self) -> int | None:
        """Latents to each side in the receptive field of `encode_coefficients`; None if that is the whole signal."""

    @property
    @abstractmethod
    def decoder_reach(self) -> int | None:
        """Latents to each side in the receptive field of `decode_coefficients`; None if that is the whole signal."""

    @abstractmethod
    def analyze(self, signal: Tensor) -> Tensor:
        """Return packet coefficients (B, C · bands, …), on the latent grid, of a signal that `encode` accepts."""

    @abstractmethod
    def encode_coefficients(self, coefficients: Tensor) -> Tensor:
        """Return the stored codes, uint8 (B, K, …), of packet coefficients."""

    @abstractmethod
    def decode_coefficients(self, codes: Tensor) -> Tensor:
        """Return the packet coefficients of stored codes."""

    @abstractmethod
    def wavelet_analysis(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Return packet coefficients, in the published order, of a signal in [-0.5, 0.5]; J levels by default."""

    @abstractmethod
    def wavelet_synthesis(self, coefficients: Tensor, levels: int | None = None) -> Tensor:
        """Return the signal of packet coefficients, the inverse of `wavelet_analysis`."""

    @abstractmethod
    def filter(self, signal: Tensor) -> Tensor:
        """Apply the post filter that follows the synthesis, if the codec has one."""
