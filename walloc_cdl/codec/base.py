"""What every codec is: resolution reduction and WaLLoC behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from walloc_cdl.errors import CallError
from walloc_cdl.spec import LatentSpec, byte_values


class Codec(nn.Module, ABC):
    """Signal to latent and back.

    `name` is what it is called in tables and messages. A codec is in eval mode from its construction on;
    only `forward` of those that have one heeds train mode.
    """

    byte_table: Tensor
    """float32 (256,): what stored bytes stand for."""

    def __init__(
        self, *, name: str, source_channels: int, latent_channels: int, stride: int, bits: int, companding: str
    ) -> None:
        super().__init__()
        self.name = name
        self.source_channels, self.latent_channels, self.stride = source_channels, latent_channels, stride
        table = torch.tensor(byte_values(bits, companding), dtype=torch.float32)
        self.register_buffer("byte_table", table, persistent=False)

    @property
    @abstractmethod
    def spec(self) -> LatentSpec:
        """The contract of the latents; where weights make the codec id, hashed anew at each access."""

    @abstractmethod
    def latents(self, pixels: Tensor) -> Tensor:
        """Float latents before rounding, companded, in units of codes: (B, C, H, W) to (B, K, h, w)."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Stored codes, uint8 (B, K, h, w), of pixels (B, C, H, W): uint8, or float in [-0.5, 0.5].

        Raises `CallError` for sizes off the stride and for other channel counts or types.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Float pixels (B, C, H, W) in [-0.5, 0.5] of stored codes (B, K, h, w)."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """`config.json` and `model.safetensors`: all that `load_codec` needs, the same bytes every time."""

    @abstractmethod
    def decoder_id(self) -> str:
        """SHA-256 (hex) of the decoding side; it may change while data sets stay valid."""

    def values(self, codes: Tensor) -> Tensor:
        """What stored codes stand for, float32 of the same shape: inverse-companded, affine in the pixels."""
        return self.byte_table.to(codes.device)[codes.long()]

    def latent_shape(self, signal_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(K, h, w) of the latent of an image (C, H, W); raises `CallError` for one that cannot be encoded."""
        channels, height, width = signal_shape
        if channels != self.source_channels:
            raise CallError(
                f"{channels} channels, but codec {self.name} takes {self.source_channels}; "
                "convert the images or choose a codec for that many"
            )
        stride = self.stride
        for side, length in (("height", height), ("width", width)):
            if length % stride or length < stride:
                below = max(length // stride, 1) * stride
                nearest = sorted({below, (length // stride + 1) * stride})
                raise CallError(
                    f"{side} {length} is not a multiple of the stride {stride} of codec {self.name}; "
                    f"nearest that are: {', '.join(map(str, nearest))}"
                )
        return self.latent_channels, height // stride, width // stride

    def _check_pixels(self, pixels: Tensor) -> None:
        if pixels.ndim != 4:
            raise CallError(f"pixels of shape {tuple(pixels.shape)}; expected (batch, channels, height, width)")
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise CallError(f"pixels of type {pixels.dtype}; expected uint8, or float in [-0.5, 0.5]")
        self.latent_shape(tuple(pixels.shape[1:]))


def to_unit_range(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 pixels to [-0.5, 0.5]; float pixels, which are there already, to `dtype`."""
    if pixels.dtype == torch.uint8:
        return pixels.to(dtype) / 255 - 0.5
    return pixels.to(dtype)


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-0.5, 0.5] to uint8, clamped and rounded."""
    return ((pixels + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)
