"""WaLLoC for images in stages, each of which encodes the residual of the previous stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec.bottleneck import Round, compand, expand
from walloc_cdl.codec.config import require_between
from walloc_cdl.codec.families.walloc import WallocCodec, WallocConfig
from walloc_cdl.codec.packets import AnalysisLevel, SynthesisLevel
from walloc_cdl.codec.weights import tensors_to_bytes
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.packets import packet_analysis, packet_synthesis

MAX_STAGES = 64


@dataclass(frozen=True)
class ResidualConfig2D(WallocConfig):
    """Configuration of a `ResidualCodec2D`; `latent_channels` is the number for one stage."""

    name: str = "walloc-residual-2d"
    stages: int = 2

    type: ClassVar[str] = "walloc-residual-2d"
    always_written: ClassVar[tuple[str, ...]] = (*WallocConfig.always_written, "stages")
    dimensions: ClassVar[int] = 2
    max_levels: ClassVar[int] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self.stages, 1, MAX_STAGES, "stages")
        if self.planes is not None:
            raise CallError("stages with bit planes; stages have companded codes")
        if (self.encoder, self.decoder) != ("light", "linear"):
            raise CallError(f"a {self.encoder} encoder and a {self.decoder} decoder; stages require light and linear")


@dataclass(frozen=True)
class Stage:
    """Input and results of one stage of `ResidualCodec2D`."""

    residual: Tensor
    """Residual packet coefficients of the previous stages, (B, C · 4^J, h, w)."""
    companded: Tensor
    """Companded latent before rounding, (B, K, h, w)."""
    rounded: Tensor
    """Latent rounded, or with noise in train mode."""
    estimate: Tensor
    """Decoded coefficients, of the shape of `residual`."""


class ResidualCodec2D(WallocCodec):
    """Image codec of linear stages, (B, C, H, W) to (B, stages · K, h, w); the first K channels alone are a codec.

    Modules are named as in the published class (`encoders`, `decoders`).

    >>> codec = ResidualCodec2D(ResidualConfig2D(channels=3, latent_channels=6, stages=2))
    >>> codec.encode(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 12, 8, 12])
    """

    config_class = ResidualConfig2D

    def __init__(self, config: ResidualConfig2D) -> None:
        super().__init__(config, kind="image", latent_channels=config.stages * config.latent_channels)
        self.wt, self.iwt = AnalysisLevel(), SynthesisLevel()
        self.to_uniform, self.round, self.to_normal = compand(config.bits), Round(), expand(config.bits)
        bands, latents = config.num_bands, config.latent_channels
        self.encoders = nn.ModuleList(nn.Conv2d(bands, latents, kernel_size=1) for _ in range(config.stages))
        self.decoders = nn.ModuleList(nn.Conv2d(latents, bands, kernel_size=1) for _ in range(config.stages))
        self.eval()

    @property
    def encoder_reach(self) -> int:
        """See `PacketCodec.encoder_reach`; the stages are linear."""
        return 0

    @property
    def decoder_reach(self) -> int:
        """See `PacketCodec.decoder_reach`; the stages are linear."""
        return 0

    def wavelet_analysis(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Return packet coefficients (B, C · 4^J, h, w) of pixels in [-0.5, 0.5], in the published order."""
        return packet_analysis(x, levels or self.config.levels)

    def wavelet_synthesis(self, coefficients: Tensor, levels: int | None = None) -> Tensor:
        """Return the pixels of packet coefficients, the inverse of `wavelet_analysis`."""
        return packet_synthesis(coefficients, levels or self.config.levels)

    def run_stages(self, coefficients: Tensor, rounding: nn.Module) -> list[Stage]:
        """Run all stages in order, each on the residual of the previous stages."""
        stages = []
        residual = coefficients
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            companded = self.to_uniform(encoder(residual))
            rounded = rounding(companded)
            estimate = decoder(self.to_normal(rounded))
            stages.append(Stage(residual, companded, rounded, estimate))
            residual = residual - estimate
        return stages

    def latents(self, signal: Tensor) -> Tensor:
        """Return float latents (B, stages · K, h, w), each before the rounding of its stage."""
        self._check_signal(signal)
        stages = self.run_stages(self.analyze(signal), Round().eval())
        return torch.cat([stage.companded for stage in stages], dim=1)

    def decode_coefficients(self, codes: Tensor) -> Tensor:
        """Return the packet coefficients of stored codes, the sum of the estimates of all stages."""
        values = self.values(codes, self.dtype).chunk(self.config.stages, dim=1)
        estimates = [decoder(part) for decoder, part in zip(self.decoders, values, strict=True)]
        return sum(estimates[1:], estimates[0])

    def forward(self, signal: Tensor) -> Tensor:
        """Encode and decode pixels, with noise in train mode and rounding in eval mode; differentiable."""
        self._check_signal(signal)
        stages = self.run_stages(self.analyze(signal), self.round)
        return self.clamp(self.synthesize(sum((stage.estimate for stage in stages[1:]), stages[0].estimate)))

    def _linear_encoder(self) -> None:
        """Return None, since the input of a stage depends on the previous stage."""

    def encoder_id(self) -> str:
        """Return the codec id, see `Codec.encoder_id`; the codes depend on all decoders except the last."""
        side = {**self._encoding_side(), "stages": self.config.stages}
        feedback = tensors_to_bytes(self.decoders[:-1]) if self.config.stages > 1 else b""
        return sha256_hex(canonical_json(side) + tensors_to_bytes(self.encoders) + feedback)

    def decoder_id(self) -> str:
        """Return the id of the decoding side; see `Codec.decoder_id`."""
        return sha256_hex(b"residual" + tensors_to_bytes(self.decoders))
