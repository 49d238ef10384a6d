"""`Codec`, the interface of all codecs: resolution reduction and WaLLoC, for images and for audio."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from walloc_cdl.codec.config import CodecConfig
from walloc_cdl.codec.hub_mixin import HubMixin
from walloc_cdl.codec.signal_checks import require_range, require_tensor
from walloc_cdl.codec.weights import build_with_weights, config_from_bytes, tensors_from_bytes
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.unpack import pack_rows_tensor
from walloc_cdl.planes.levels import LevelTables
from walloc_cdl.spec import LatentSpec, byte_values, shapes_text

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder

AnyCodec = TypeVar("AnyCodec", bound="Codec")

STORED_TYPE = {"image": torch.uint8, "audio": torch.int16}
"""Integer type of signals by kind; a signal is value / 255 - 0.5 for uint8 and value / 65536 for int16 PCM."""

AXES = {"image": ("height", "width"), "audio": ("length",)}


class Codec(HubMixin, nn.Module, ABC):
    """Maps signals to latents and back: images (B, C, H, W) to (B, K, h, w), audio (B, C, T) to (B, K, t).

    `name` appears in tables and messages. A new codec is in eval mode; train mode affects `forward` only, which not
    every codec has.
    """

    config_class: ClassVar[type[CodecConfig]]

    reach: ClassVar[int] = 0
    """Latents to each side in the receptive field of resampling codecs, whose filters are cut at the border."""

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
        planes: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.kind = name, kind
        self.source_channels, self.latent_channels, self.stride = source_channels, latent_channels, stride
        self.bits, self.companding = bits, companding
        self.extra_frames, self.sample_rate = extra_frames, sample_rate
        self.planes = planes

    def __repr__(self) -> str:
        """Say what the codec does, in one line, in place of torch's tree of modules."""
        shapes = shapes_text(
            self.kind,
            self.source_channels,
            self.latent_channels,
            self.stride,
            extra_frames=self.extra_frames,
            bits=self.bits,
            num_planes=len(self.planes or ()),
        )
        return f"{type(self).__name__}({self.name!r}: {shapes})"

    @property
    def spec(self) -> LatentSpec:
        """The spec of the latents; the codec id is computed, from the weights if there are any, at each access."""
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
            planes=self.planes,
        )

    def with_planes(self, num_planes: int) -> Codec:
        """Return this codec, with the same weights and id, of the first `num_planes` bit planes of its codes.

        Raises `CallError` for none, for more than there are, and for a codec without bit planes.
        """
        spec = self.spec.with_planes(num_planes)
        codec = copy.copy(self)  # shares parameters and buffers
        codec.planes, codec.latent_channels, codec.bits = spec.planes, spec.latent_channels, spec.bits
        return codec

    def for_latents(self, spec: LatentSpec) -> Codec:
        """Return this codec with as many bit planes as latents of `spec` have; itself if it has as many, or none."""
        same = self.planes is None or spec.planes is None or len(self.planes) == len(spec.planes)
        return self if same else self.with_planes(spec.num_planes)

    @property
    def level_tables(self) -> LevelTables | None:
        """Thresholds and levels of a codec with bit planes, of all planes that it has; None for others."""
        return None

    @abstractmethod
    def latents(self, signal: Tensor) -> Tensor:
        """Return companded float latents before rounding, in units of codes: (B, K, h, w) or (B, K, t).

        Codecs with bit planes do not compand; their latents are in units of their levels.
        """

    @abstractmethod
    def encode(self, signal: Tensor) -> Tensor:
        """Return stored codes, uint8 (B, K, h, w) or (B, K, t), always rounded.

        Images are uint8, audio is int16 PCM (value / 65536), and both may be float in [-0.5, 0.5].
        Raises `CallError` for sizes that are not multiples of the stride, for other channel counts or types, for arrays
        and PIL images, and for float signals with NaN or beyond ±0.75, as resizing overshoots a little; on a GPU these
        fail an assertion on the device. Dark images in [0, 1] cannot be told from correct ones: subtract 0.5.
        """

    def encode_rows(self, signal: Tensor) -> Tensor:
        """Return the stored rows, uint8 (B, R), of a codec with bit planes: `encode`, with its codes packed.

        Rows are on the device of the signal; `walloc_cdl.planes.rows` describes them. Raises `CallError` as `encode`
        does, and for a codec without bit planes.
        """
        if self.planes is None:
            raise CallError(f"codec {self.name} has no bit planes: its codes are stored as bytes; call encode")
        return pack_rows_tensor(self.encode(signal), self.planes)

    def detached_encoder(self) -> DetachedEncoder | None:
        """Return an encoder for worker processes that do not import torch; None if `encode` requires torch.

        It gives the same codes as `encode` on the CPU with the current weights.
        """
        return None

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return the float signal in [-0.5, 0.5], (B, C, H, W) or (B, C, T), of stored codes."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Return `config.json` and `model.safetensors`, all that `load_codec` needs; the bytes are deterministic."""

    @classmethod
    def from_files(cls: type[AnyCodec], files: dict[str, bytes], *, origin: str) -> AnyCodec:
        """Return the codec of this class from its files; `walloc_cdl.load_codec` reads codecs of every class.

        Raises `DamagedError`, naming `origin`, for invalid files, and `CallError` for a codec of another class.
        """
        if not hasattr(cls, "config_class"):
            raise CallError(f"{cls.__name__} is an abstract class; use load_codec, which reads codecs of every class")
        config = cls.config_class.from_json(config_from_bytes(files, origin), f"{origin}: config.json")
        return build_with_weights(cls, config, tensors_from_bytes(files, origin), origin)

    @abstractmethod
    def encoder_id(self) -> str:
        """Return the codec id, the SHA-256 (hex) of the encoding side; it identifies the codec of a data set."""

    @abstractmethod
    def decoder_id(self) -> str:
        """Return the SHA-256 (hex) of the decoding side; data sets remain valid when it changes."""

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the inverse-companded values of stored codes, of the same shape; they are affine in the signal.

        Those of a codec with bit planes are the levels that the codes name.
        """
        table = torch.tensor(byte_values(self.bits, self.companding), dtype=dtype, device=codes.device)
        return table[codes.long()]

    def latent_shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latent, (K, h, w) or (K, t), of one signal of shape (C, H, W) or (C, T).

        Raises `CallError`, with the nearest valid sizes, for a signal that cannot be encoded.
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
        content = "pixels" if self.kind == "image" else "audio"
        axes = ("batch", "channels", *AXES[self.kind])
        require_tensor(signal, content, axes, self.source_channels)
        if signal.ndim != len(axes):
            raise CallError(f"{content} of shape {tuple(signal.shape)}; expected ({', '.join(axes)})")
        stored = STORED_TYPE[self.kind]
        if signal.dtype != stored and not signal.is_floating_point():
            name = str(stored).removeprefix("torch.")
            raise CallError(f"{content} of type {signal.dtype}; expected {name}, or float in [-0.5, 0.5]")
        self.latent_shape(tuple(signal.shape[1:]))

    def check_range(self, signal: Tensor) -> None:
        """Raise `CallError` for a float signal with NaN or beyond ±0.75; see `encode`."""
        require_range(signal, self.kind)

    def check_codes(self, codes: Tensor) -> None:
        """Raise `CallError` unless `codes` are stored codes that this codec can decode, uint8 (B, K, …)."""
        axes = ("batch", str(self.latent_channels), *(("h", "w") if self.kind == "image" else ("t",)))
        require_tensor(codes, "codes", axes, self.latent_channels)
        if codes.ndim != len(axes) or codes.shape[1] != self.latent_channels:
            raise CallError(f"codes of shape {tuple(codes.shape)}; codec {self.name} decodes ({', '.join(axes)})")
        if codes.dtype != torch.uint8:
            raise CallError(f"codes of type {codes.dtype}; expected stored codes, uint8")
        if min(codes.shape[2:]) <= self.extra_frames:
            raise CallError(
                f"{min(codes.shape[2:])} frames of latent; codec {self.name} needs at least {self.extra_frames + 1}"
            )


def to_unit_range(signal: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert uint8 pixels and int16 samples to [-0.5, 0.5], and float signals, which have that range, to `dtype`."""
    if signal.dtype == torch.uint8:
        return signal.to(dtype) / 255 - 0.5
    if signal.dtype == torch.int16:
        return signal.to(dtype) / 65536
    return signal.to(dtype)


def to_bytes(pixels: Tensor) -> Tensor:
    """Convert pixels in [-0.5, 0.5] to uint8, rounded and clamped."""
    return ((pixels + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def to_pcm(audio: Tensor) -> Tensor:
    """Convert samples in [-0.5, 0.5] to int16 PCM, rounded and clamped: the inverse of value / 65536."""
    return (audio * 65536).round().clamp(-32768, 32767).to(torch.int16)
