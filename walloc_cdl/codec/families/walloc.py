"""WaLLoC: wavelet packets, an encoder, a companding bottleneck and a decoder, for images and audio.

    signal ─ wavelet_analysis ─▶ coefficients ─ encoder[0] ─▶ (B,K,…) ─ encoder[1] companding
                                                                              │ encoder[2] rounding
    signal ◀─ clamp ◀─ (post) ◀─ wavelet_synthesis ◀─ decoder[1] ─ decoder[0] ◀ codes

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", arXiv:2412.09405.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.codec.bottleneck import Round, compand, expand
from walloc_cdl.codec.compiled import CompiledEncoder, EncoderWeights
from walloc_cdl.codec.config import (
    MAX_CHANNELS,
    MAX_WIDTH,
    CodecConfig,
    require_between,
    require_choice,
    require_fit_info,
    require_name,
    shortened,
)
from walloc_cdl.codec.level_quantizer import LevelQuantizer
from walloc_cdl.codec.packet_codec import PacketCodec
from walloc_cdl.codec.weights import tensors_to_bytes
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.planes.levels import LevelTables
from walloc_cdl.spec import code_limit, count_planes

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder

Walloc = TypeVar("Walloc", bound="WallocCodec")

ENCODERS = ("light", "full")
DECODERS = ("linear", "network")


@dataclass(frozen=True)
class WallocConfig(CodecConfig):
    """Common fields of all WaLLoC configurations; use `WallocConfig1D`, `WallocConfig2D` or `ResidualConfig2D`."""

    channels: int = 3
    """Source channels, C."""
    levels: int = 3
    """Wavelet levels, J; the stride is 2^J."""
    latent_channels: int = 12
    """Latent channels, K."""
    bits: int = 8
    """Bits of a code, 2 to 8."""
    name: str = "walloc"
    fit: dict[str, Any] = field(default_factory=dict)
    """Description of how the weights were fitted, for information only; the codec id does not depend on it."""
    encoder: str = "light"
    """`light`, one linear layer, or `full`, a network."""
    decoder: str = "linear"
    """`linear`, one linear layer, or `network`, as published: residual blocks with attention for images,
    Oobleck for audio."""
    encoder_width: int | None = None
    """Channels inside the full encoder, Ne; None for the light encoder."""
    decoder_width: int | None = None
    """Channels inside the network decoder, Nd; None for the linear decoder."""
    planes: tuple[int, ...] | None = None
    """The channel of each bit plane in order of importance, for a codec whose channels have levels in place of
    companding (`walloc_cdl.planes`); `bits` are those of the channel that has most. None for companded codes."""

    always_written: ClassVar[tuple[str, ...]] = ("channels", "levels", "latent_channels", "bits", "name", "fit")
    dimensions: ClassVar[int]
    max_levels: ClassVar[int]

    def __post_init__(self) -> None:
        require_between(self.channels, 1, MAX_CHANNELS, "source channels")
        require_between(self.levels, 1, self.max_levels, "wavelet levels")
        require_between(self.bits, 2 if self.planes is None else 1, 8, "bits a latent value")
        if type(self.latent_channels) is not int or not 1 <= self.latent_channels <= self.num_bands:
            raise CallError(
                f"{shortened(self.latent_channels)} latent channels; {self.channels} source channels and {self.levels} "
                f"levels give at least 1 and at most {self.num_bands}"
            )
        require_name(self.name)
        require_fit_info(self.fit)
        require_choice(self.encoder, ENCODERS, "encoder")
        require_choice(self.decoder, DECODERS, "decoder")
        self._check_width("encoder_width", self.encoder_width, self.encoder == "full")
        self._check_width("decoder_width", self.decoder_width, self.decoder == "network")
        if self.planes is not None:
            self._check_planes()

    @property
    def channel_bits(self) -> tuple[int, ...]:
        """Bits of the codes of each channel of a codec with bit planes."""
        return count_planes(self.planes or ())[1]

    def _check_planes(self) -> None:
        if isinstance(self.planes, list):  # from JSON
            object.__setattr__(self, "planes", tuple(self.planes))
        num_channels, bits = count_planes(self.planes)
        if (num_channels, max(bits)) != (self.latent_channels, self.bits):
            raise CallError(
                f"bit planes of {num_channels} channels of up to {max(bits)} bits; expected {self.latent_channels} "
                f"channels of up to {self.bits}"
            )
        if self.encoder != "light":
            raise CallError("bit planes with an encoder that is a network; they need a linear one, `light`")

    @property
    def num_bands(self) -> int:
        """Packet coefficients at each position of the latent grid: C · 4^J for images, C · 2^J for audio."""
        return self.channels * 2 ** (self.dimensions * self.levels)

    @property
    def stride(self) -> int:
        """Samples of the signal for each latent, along each axis: 2^J."""
        return 2**self.levels

    def _check_width(self, name: str, width: int | None, is_used: bool) -> None:
        if not is_used and width is not None:
            raise CallError(
                f"{name} {shortened(width)} without a network of that width; omit it, or choose the network"
            )
        if is_used:
            require_between(width, 1, MAX_WIDTH, f"as {name}")


class WallocCodec(PacketCodec):
    """Base class of `WallocCodec1D` and `WallocCodec2D`.

    Modules are named as in the published codecs (`wt`, `iwt`, `encoder`, `decoder`, `post`, `clamp`), so that a
    published `state_dict` loads unchanged.
    """

    config: WallocConfig
    encoder: nn.Sequential
    decoder: nn.Sequential

    def __init__(
        self,
        config: WallocConfig,
        *,
        kind: str,
        latent_channels: int | None = None,
        extra_frames: int = 0,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__(
            name=config.name,
            kind=kind,
            source_channels=config.channels,
            latent_channels=latent_channels or config.latent_channels,
            stride=config.stride,
            bits=config.bits,
            companding="normal" if config.planes is None else "levels",
            extra_frames=extra_frames,
            sample_rate=sample_rate,
            planes=config.planes,
        )
        self.config, self.levels = config, config.levels
        self.clamp = nn.Hardtanh(-0.5, 0.5)
        self._compiled = CompiledEncoder(levels=config.levels, dimensions=config.dimensions, bits=config.bits)

    @property
    def encoder_reach(self) -> int | None:
        """See `PacketCodec.encoder_reach`: the `reach` of a network, and 0 for a linear layer."""
        return getattr(self.encoder[0], "reach", 0)

    @property
    def decoder_reach(self) -> int | None:
        """See `PacketCodec.decoder_reach`."""
        return getattr(self.decoder[-1], "reach", 0)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which signals are computed."""
        return next(self.parameters()).dtype

    def latents(self, signal: Tensor) -> Tensor:
        """Return float latents before rounding, in ±`companded_limit(bits)`; see `Codec.latents`."""
        self._check_signal(signal)
        return self._before_rounding(self.encoder[0](self.analyze(signal)))

    def _before_rounding(self, z: Tensor) -> Tensor:
        """Return the companded output of the encoder's first layer, or the channels of a codec with bit planes."""
        return z[:, : self.latent_channels] if self.planes else self.encoder[1](z)

    @classmethod
    def from_files(cls: type[Walloc], files: dict[str, bytes], *, origin: str) -> Walloc:
        """Return the codec of its files; see `Codec.from_files`. Levels must be in ascending order."""
        codec = super().from_files(files, origin=origin)  # type: ignore[misc]
        if codec.quantizer is not None and (problem := codec.quantizer.tables.problem()):
            raise DamagedError(f"{origin}: model.safetensors has {problem}; restore or fit the codec again")
        return codec

    @property
    def quantizer(self) -> LevelQuantizer | None:
        """The quantizer of a codec with bit planes; None for companded codes."""
        return self.encoder[1] if self.planes else None

    @property
    def level_tables(self) -> LevelTables | None:
        """See `Codec.level_tables`."""
        return None if self.quantizer is None else self.quantizer.tables

    def with_planes(self, num_planes: int) -> WallocCodec:
        """Return this codec with fewer bit planes; see `Codec.with_planes`."""
        codec = super().with_planes(num_planes)
        codec._compiled = copy.copy(self._compiled)
        return codec

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the values of stored codes; see `Codec.values`. Channels without a bit plane have their means."""
        if self.quantizer is None:
            return super().values(codes, dtype)
        return self.quantizer.dequantize(codes, count_planes(self.planes)[1], dtype)

    @torch.no_grad()
    def encode(self, signal: Tensor) -> Tensor:
        """Return stored codes; see `Codec.encode`. A light encoder uses the compiled path where there is one."""
        self._check_signal(signal)
        self.check_range(signal)
        weights = self._linear_encoder()
        codes = None if weights is None else self._compiled.encode(weights, signal, self._unpadded_codes)
        return self._quantize(self.latents(signal)) if codes is None else codes

    def detached_encoder(self) -> DetachedEncoder | None:
        """See `Codec.detached_encoder`; only light float32 encoders that add no frames at the ends have one."""
        weights = self._linear_encoder()
        return None if weights is None or self.extra_frames else self._compiled.detached(weights)

    def _unpadded_codes(self, signal: Tensor) -> Tensor:
        """Return the stored codes, without frames of padding, computed by the plain path."""
        return self._quantize(self.latents(signal))

    def _linear_encoder(self) -> EncoderWeights | None:
        """Return the weights of a light encoder; None for a network."""
        if self.config.encoder != "light":
            return None
        linear = self.encoder[0]
        return EncoderWeights(linear.weight, linear.bias, self.quantizer, self.planes or ())

    @torch.no_grad()
    def encode_coefficients(self, coefficients: Tensor) -> Tensor:
        """Return the stored codes of packet coefficients."""
        return self._quantize(self._before_rounding(self.encoder[0](coefficients)))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the float signal in [-0.5, 0.5]; see `Codec.decode`."""
        self.check_codes(codes)
        return self.clamp(self.synthesize(self.decode_coefficients(codes)))

    def decode_coefficients(self, codes: Tensor) -> Tensor:
        """Return the packet coefficients of stored codes, before the synthesis."""
        return self.decoder[1](self.values(codes, self.dtype))

    def forward(self, signal: Tensor) -> Tensor:
        """Encode and decode a signal, with noise in train mode and rounding in eval mode; differentiable."""
        self._check_signal(signal)
        coefficients = self.analyze(signal)
        if self.quantizer is None:
            return self.clamp(self.synthesize(self.decoder(self.encoder(coefficients))))
        values = self.quantizer(self.encoder[0](coefficients), count_planes(self.planes)[1])
        return self.clamp(self.synthesize(self.decoder(values)))

    def files(self) -> dict[str, bytes]:
        """Return the files of the codec; see `Codec.files`."""
        config = json.dumps(self.config.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"
        return {"config.json": config.encode(), "model.safetensors": tensors_to_bytes(self)}

    def encoder_id(self) -> str:
        """Return the codec id, see `Codec.encoder_id`; it changes when the encoder is trained."""
        return sha256_hex(canonical_json(self._encoding_side()) + tensors_to_bytes(self.encoder))

    def decoder_id(self) -> str:
        """Return the id of the decoding side; see `Codec.decoder_id`."""
        return sha256_hex(self.config.decoder.encode() + tensors_to_bytes(self.decoder))

    def _encoding_side(self) -> dict[str, object]:
        config = self.config
        quantizer = {"companding": "normal"} if config.planes is None else {"planes": list(config.planes)}
        side: dict[str, object] = {
            "type": config.type,
            "wavelet": "bior4.4",
            "padding": "periodization",
            **quantizer,
            "channels": config.channels,
            "levels": config.levels,
            "latent_channels": config.latent_channels,
            "bits": config.bits,
        }
        if config.encoder != "light":
            side |= {"encoder": config.encoder, "encoder_width": config.encoder_width}
        return side

    def _quantize(self, latents: Tensor) -> Tensor:
        if self.quantizer is not None:
            return self.quantizer.quantize(latents, count_planes(self.planes)[1])
        return (torch.round(latents) + (code_limit(self.bits) + 1)).to(torch.uint8)

    def analyze(self, signal: Tensor) -> Tensor:
        """Return the packet coefficients of a signal of any type that `encode` accepts."""
        return self.wavelet_analysis(to_unit_range(signal, self.dtype), self.levels)

    def synthesize(self, coefficients: Tensor) -> Tensor:
        """Return the signal of decoded coefficients, before the clamp."""
        return self.filter(self.wavelet_synthesis(coefficients, self.levels))

    def filter(self, signal: Tensor) -> Tensor:
        """Return the signal unchanged; codecs with a post filter override this method."""
        return signal


def bottleneck(config: WallocConfig, encoder: nn.Module, decoder: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Return encoder and decoder with what stands between them: companding and rounding, or levels."""
    if config.planes is not None:
        return nn.Sequential(encoder, LevelQuantizer(config.channel_bits)), nn.Sequential(nn.Identity(), decoder)
    return nn.Sequential(encoder, compand(config.bits), Round()), nn.Sequential(expand(config.bits), decoder)
