"""WaLLoC for images: wavelet packets, one linear layer, a companding bottleneck, a linear decoder.

    pixels (B,C,H,W) ─ wavelet_analysis ─▶ (B,C·4^J,h,w) ─ encoder[0] ─▶ (B,K,h,w) ─ encoder[1] companding
                                                                                          │ encoder[2] rounding
    pixels ◀─ clamp ─ wavelet_synthesis ◀─ (B,C·4^J,h,w) ◀─ decoder[1] ─ decoder[0] ◀──── codes

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", arXiv:2412.09405.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.codec.bottleneck import Compand, Expand, Round
from walloc_cdl.codec.packets import AnalysisLevel, SynthesisLevel
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.packets import packet_analysis, packet_encode, packet_synthesis
from walloc_cdl.spec import LatentSpec, code_limit


@dataclass(frozen=True)
class WallocConfig:
    """What fixes a `WallocCodec2D` but for its weights."""

    channels: int = 3
    """Source channels, C."""
    levels: int = 3
    """Wavelet levels, J; the stride is 2^J."""
    latent_channels: int = 12
    """K."""
    bits: int = 8
    name: str = "walloc-2d"
    fit: dict[str, Any] = field(default_factory=dict)
    """How the weights came to be, for people; no part of the codec id."""

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 5:
            raise CallError(f"{self.levels} wavelet levels; expected 1 to 5")
        if not 1 <= self.latent_channels <= self.channels * 4**self.levels:
            raise CallError(
                f"{self.latent_channels} latent channels; {self.channels} source channels and {self.levels} "
                f"levels give at least 1 and at most {self.channels * 4**self.levels}"
            )

    @property
    def num_bands(self) -> int:
        """Packet coefficients at each position of the latent grid: C · 4^J."""
        return self.channels * 4**self.levels

    def to_json(self) -> dict[str, Any]:
        """Fields of `config.json`."""
        return {"format": "walloc-cdl-codec", "format_version": 1, "type": "walloc-2d", **dataclasses.asdict(self)}


class WallocCodec2D(Codec):
    """Image codec with a linear encoder and a linear decoder.

    Modules are named as in the published codecs (`wt`, `iwt`, `encoder`, `decoder`, `clamp`).

    >>> codec = WallocCodec2D(WallocConfig(channels=3, latent_channels=12))
    >>> codec.encode(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 12, 8, 12])
    """

    def __init__(self, config: WallocConfig) -> None:
        super().__init__(
            name=config.name,
            source_channels=config.channels,
            latent_channels=config.latent_channels,
            stride=2**config.levels,
            bits=config.bits,
            companding="normal",
        )
        self.config = config
        self.wt, self.iwt = AnalysisLevel(), SynthesisLevel()
        self.encoder = nn.Sequential(
            nn.Conv2d(config.num_bands, config.latent_channels, kernel_size=1), Compand(config.bits), Round()
        )
        self.decoder = nn.Sequential(
            Expand(config.bits), nn.Conv2d(config.latent_channels, config.num_bands, kernel_size=1)
        )
        self.clamp = nn.Hardtanh(-0.5, 0.5)
        self.eval()

    @property
    def spec(self) -> LatentSpec:
        """See `Codec.spec`; training changes the encoder and with it the codec id."""
        config = self.config
        return LatentSpec(
            codec_id=self._encoder_id(),
            kind="image",
            source_channels=config.channels,
            latent_channels=config.latent_channels,
            stride=2**config.levels,
            bits=config.bits,
            companding="normal",
        )

    def wavelet_analysis(self, x: Tensor) -> Tensor:
        """Packet coefficients (B, C · 4^J, h, w) of pixels in [-0.5, 0.5], in the published order."""
        return packet_analysis(x, self.config.levels)

    def wavelet_synthesis(self, coefficients: Tensor) -> Tensor:
        """Inverse of `wavelet_analysis`."""
        return packet_synthesis(coefficients, self.config.levels)

    def latents(self, pixels: Tensor) -> Tensor:
        """Float latents before rounding, in ±`companded_limit(bits)`, (B, K, h, w)."""
        self._check_pixels(pixels)
        linear = self.encoder[0]
        x = pixels if pixels.dtype == torch.uint8 else pixels.to(linear.weight.dtype)
        return self.encoder[1](packet_encode(x, linear.weight[:, :, 0, 0], linear.bias, self.config.levels))

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Stored codes uint8 (B, K, h, w); see `Codec.encode`."""
        return (torch.round(self.latents(pixels)) + (code_limit(self.config.bits) + 1)).to(torch.uint8)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Float pixels (B, C, H, W) in [-0.5, 0.5]; see `Codec.decode`."""
        return self.clamp(self.wavelet_synthesis(self.decoder[1](self.values(codes))))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels through the whole codec, noise in train mode and rounding in eval mode; differentiable."""
        self._check_pixels(pixels)
        coefficients = self.wavelet_analysis(to_unit_range(pixels, self.encoder[0].weight.dtype))
        return self.clamp(self.wavelet_synthesis(self.decoder(self.encoder(coefficients))))

    def files(self) -> dict[str, bytes]:
        """See `Codec.files`."""
        config = json.dumps(self.config.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return {"config.json": config.encode(), "model.safetensors": save(tensors)}

    def _encoder_id(self) -> str:
        config = self.config
        side = {
            "type": "walloc-2d",
            "wavelet": "bior4.4",
            "padding": "periodization",
            "companding": "normal",
            "channels": config.channels,
            "levels": config.levels,
            "latent_channels": config.latent_channels,
            "bits": config.bits,
        }
        return sha256_hex(canonical_json(side) + _tensor_bytes(self.encoder))

    def decoder_id(self) -> str:
        """See `Codec.decoder_id`."""
        return sha256_hex(b"linear" + _tensor_bytes(self.decoder))


def _tensor_bytes(module: nn.Module) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})
