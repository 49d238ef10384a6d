"""The stages of a codec of wavelet packets, one by one, for callers that cut a signal between them."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from walloc_cdl.codec.base import Codec


class PacketCodec(Codec):
    """A codec of a periodic wavelet packet transform, which turns signals into coefficients on the latent grid.

    `encode` is `analyze` and `encode_coefficients`; `decode` is `decode_coefficients`, `wavelet_synthesis`, `filter`
    and `clamp`. Each stage looks beyond its own position by a number of samples or latents that is known, so that
    `walloc_cdl.codec.tiles` can give it as much: the transform by less than four latents to each side, and the signal
    goes on periodically beyond its ends; encoder and decoder by `encoder_reach` and `decoder_reach` latents, and the
    filter by `filter_reach` samples, all with zeros beyond the ends.
    """

    levels: int
    """Wavelet levels, J; the stride is 2^J."""
    clamp: nn.Module
    """Limits the values of a signal to [-0.5, 0.5]."""
    filter_reach: int = 0
    """Samples to each side that `filter` looks at."""

    @property
    @abstractmethod
    def encoder_reach(self) -> int | None:
        """Latents to each side that `encode_coefficients` looks at; None where it looks at the whole signal."""

    @property
    @abstractmethod
    def decoder_reach(self) -> int | None:
        """Latents to each side that `decode_coefficients` looks at; None where it looks at the whole signal."""

    @abstractmethod
    def analyze(self, signal: Tensor) -> Tensor:
        """Packet coefficients (B, C · bands, …), on the grid of the latents, of a signal that `encode` takes."""

    @abstractmethod
    def encode_coefficients(self, coefficients: Tensor) -> Tensor:
        """Stored codes, uint8 (B, K, …), of packet coefficients."""

    @abstractmethod
    def decode_coefficients(self, codes: Tensor) -> Tensor:
        """Packet coefficients of stored codes."""

    @abstractmethod
    def wavelet_analysis(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Packet coefficients, in the published order, of a signal in [-0.5, 0.5]; J levels unless told."""

    @abstractmethod
    def wavelet_synthesis(self, coefficients: Tensor, levels: int | None = None) -> Tensor:
        """Inverse of `wavelet_analysis`."""

    @abstractmethod
    def filter(self, signal: Tensor) -> Tensor:
        """What follows the synthesis: a filter over the signal, or nothing."""
