"""What every codec is: resolution reduction and WaLLoC, for images and for audio, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from walloc_cdl.codec.config import CodecConfig
from walloc_cdl.codec.hub_mixin import HubMixin
from walloc_cdl.codec.weights import build_with_weights, config_from_bytes, tensors_from_bytes
from walloc_cdl.errors import CallError
from walloc_cdl.spec import LatentSpec, byte_values

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder

AnyCodec = TypeVar("AnyCodec", bound="Codec")

STORED_TYPE = {"image": torch.uint8, "audio": torch.int16}
"""The integer type that signals of a kind come in: uint8 is value / 255 - 0.5, int16 PCM is value / 65536."""

AXES = {"image": ("height", "width"), "audio": ("length",)}


class Codec(HubMixin, nn.Module, ABC):
    """Signal to latent and back: images (B, C, H, W) to (B, K, h, w), audio (B, C, T) to (B, K, t).

    `name` is what it is called in tables and messages. A codec is in eval mode from its construction on;
    only `forward` of those that have one heeds train mode.
    """

    config_class: ClassVar[type[CodecConfig]]

    reach: ClassVar[int] = 0
    """Latents to each side that resampling looks at, where encoding or decoding is one; it ends at the border."""

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        source_channels: int,
        latent_channels: int,
        stride: int,
        bits: int,
        companding: str,
        extra_frames: int = 0,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.kind = name, kind
        self.source_channels, self.latent_channels, self.stride = source_channels, latent_channels, stride
        self.bits, self.companding = bits, companding
        self.extra_frames, self.sample_rate = extra_frames, sample_rate

    @property
    def spec(self) -> LatentSpec:
        """The contract of the latents; where weights make the codec id, hashed anew at each access."""
        return LatentSpec(
            codec_id=self.encoder_id(),
            kind=self.kind,
            source_channels=self.source_channels,
            latent_channels=self.latent_channels,
            stride=self.stride,
            bits=self.bits,
            companding=self.companding,
            extra_frames=self.extra_frames,
            sample_rate=self.sample_rate,
        )

    @abstractmethod
    def latents(self, signal: Tensor) -> Tensor:
        """Float latents before rounding, companded, in units of codes: (B, K, h, w) or (B, K, t)."""

    @abstractmethod
    def encode(self, signal: Tensor) -> Tensor:
        """Stored codes, uint8 (B, K, h, w) or (B, K, t), always rounded.

        Images are uint8, audio is int16 PCM (value / 65536), and both may be float in [-0.5, 0.5].
        Raises `CallError` for sizes off the stride and for other channel counts or types.
        """

    def detached_encoder(self) -> FusedEncoder | None:
        """What `encode` does in the memory, for processes that are to do without torch; None where it takes torch.

        The same codes, by the weights as they are now.
        """
        return None

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Float signal in [-0.5, 0.5], (B, C, H, W) or (B, C, T), of stored codes."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """`config.json` and `model.safetensors`: all that `load_codec` needs, the same bytes every time."""

    @classmethod
    def from_files(cls: type[AnyCodec], files: dict[str, bytes], *, origin: str) -> AnyCodec:
        """Inverse of `files`, for the codecs of one class; `walloc_cdl.load_codec` reads those of every class.

        Raises `DamagedError`, naming `origin`, for files that are wrong in any way, and `CallError` for a
        codec of another class.
        """
        if not hasattr(cls, "config_class"):
            raise CallError(f"{cls.__name__} is no particular codec; use load_codec, which reads those of every class")
        config = cls.config_class.from_json(config_from_bytes(files, origin), f"{origin}: config.json")
        return build_with_weights(cls, config, tensors_from_bytes(files, origin), origin)

    @abstractmethod
    def encoder_id(self) -> str:
        """The codec id: SHA-256 (hex) of the encoding side; it says which codec a data set was made by."""

    @abstractmethod
    def decoder_id(self) -> str:
        """SHA-256 (hex) of the decoding side; it may change while data sets stay valid."""

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What stored codes stand for, of the same shape: inverse-companded, affine in the signal."""
        table = torch.tensor(byte_values(self.bits, self.companding), dtype=dtype, device=codes.device)
        return table[codes.long()]

    def latent_shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the latent of one signal: (C, H, W) to (K, h, w), or (C, T) to (K, t).

        Raises `CallError` for a signal that cannot be encoded, naming the nearest sizes that can.
        """
        channels, *sides = signal_shape
        if len(sides) != len(AXES[self.kind]):
            raise CallError(f"a signal of shape {signal_shape}; expected (channels, {', '.join(AXES[self.kind])})")
        if channels != self.source_channels:
            signals = "images" if self.kind == "image" else "signals"
            raise CallError(
                f"{channels} channels, but codec {self.name} takes {self.source_channels}; "
                f"convert the {signals} or choose a codec for that many"
            )
        stride = self.stride
        for side, length in zip(AXES[self.kind], sides, strict=True):
            if length % stride or length < stride:
                below = max(length // stride, 1) * stride
                nearest = sorted({below, (length // stride + 1) * stride})
                raise CallError(
                    f"{side} {length} is not a multiple of the stride {stride} of codec {self.name}; "
                    f"nearest that are: {', '.join(map(str, nearest))}"
                )
        return self.latent_channels, *(length // stride + self.extra_frames for length in sides)

    def _check_signal(self, signal: Tensor) -> None:
        noun = "pixels" if self.kind == "image" else "audio"
        axes = ("batch", "channels", *AXES[self.kind])
        if signal.ndim != len(axes):
            raise CallError(f"{noun} of shape {tuple(signal.shape)}; expected ({', '.join(axes)})")
        stored = STORED_TYPE[self.kind]
        if signal.dtype != stored and not signal.is_floating_point():
            name = str(stored).removeprefix("torch.")
            raise CallError(f"{noun} of type {signal.dtype}; expected {name}, or float in [-0.5, 0.5]")
        self.latent_shape(tuple(signal.shape[1:]))

    def check_codes(self, codes: Tensor) -> None:
        """Raise `CallError` unless these are stored codes that this codec can decode, (B, K, …)."""
        axes = ("batch", str(self.latent_channels), *(("h", "w") if self.kind == "image" else ("t",)))
        if codes.ndim != len(axes) or codes.shape[1] != self.latent_channels:
            raise CallError(f"codes of shape {tuple(codes.shape)}; codec {self.name} decodes ({', '.join(axes)})")
        if codes.dtype != torch.uint8:
            raise CallError(f"codes of type {codes.dtype}; expected stored codes, uint8")
        if min(codes.shape[2:]) <= self.extra_frames:
            raise CallError(
                f"{min(codes.shape[2:])} frames of latent; codec {self.name} needs at least {self.extra_frames + 1}"
            )


def to_unit_range(signal: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 pixels and int16 samples to [-0.5, 0.5]; float signals, which are there already, to `dtype`."""
    if signal.dtype == torch.uint8:
        return signal.to(dtype) / 255 - 0.5
    if signal.dtype == torch.int16:
        return signal.to(dtype) / 65536
    return signal.to(dtype)


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-0.5, 0.5] to uint8, clamped and rounded."""
    return ((pixels + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def to_pcm(audio: Tensor) -> Tensor:
    """Samples in [-0.5, 0.5] to int16 PCM, rounded and clamped: the inverse of value / 65536."""
    return (audio * 65536).round().clamp(-32768, 32767).to(torch.int16)
