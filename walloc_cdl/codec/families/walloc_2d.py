"""WaLLoC for images: gray, RGB or any number of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from walloc_cdl.codec.families.networks.image import NORM_GROUPS, ImageDecoder, ImageEncoder
from walloc_cdl.codec.families.walloc import WallocCodec, WallocConfig, bottleneck
from walloc_cdl.codec.packets import AnalysisLevel, SynthesisLevel
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.packets import packet_analysis, packet_encode, packet_synthesis


@dataclass(frozen=True)
class WallocConfig2D(WallocConfig):
    """Configuration of a `WallocCodec2D`."""

    name: str = "walloc-2d"

    type: ClassVar[str] = "walloc-2d"
    dimensions: ClassVar[int] = 2
    max_levels: ClassVar[int] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("encoder_width", "decoder_width"):
            if (width := getattr(self, name)) is not None and width % NORM_GROUPS:
                raise CallError(
                    f"{name} {width} is not a multiple of {NORM_GROUPS}, the number of groups of its normalization"
                )


class WallocCodec2D(WallocCodec):
    """Image codec, (B, C, H, W) to (B, K, h, w).

    >>> codec = WallocCodec2D(WallocConfig2D(channels=3, latent_channels=12))
    >>> codec.encode(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 12, 8, 12])
    """

    config_class = WallocConfig2D

    def __init__(self, config: WallocConfig2D) -> None:
        super().__init__(config, kind="image")
        self.wt, self.iwt = AnalysisLevel(), SynthesisLevel()
        bands, latents = config.num_bands, config.latent_channels
        if config.encoder == "light":
            encoder: nn.Module = nn.Conv2d(bands, latents, kernel_size=1)
        else:
            encoder = ImageEncoder(bands, latents, config.encoder_width)
        if config.decoder == "linear":
            decoder: nn.Module = nn.Conv2d(latents, bands, kernel_size=1)
        else:
            decoder = ImageDecoder(latents, bands, config.decoder_width)
        self.encoder, self.decoder = bottleneck(config, encoder, decoder)
        self.eval()

    def wavelet_analysis(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Return packet coefficients (B, C · 4^J, h, w) of pixels in [-0.5, 0.5], in the published order."""
        return packet_analysis(x, levels or self.config.levels)

    def wavelet_synthesis(self, coefficients: Tensor, levels: int | None = None) -> Tensor:
        """Return the pixels of packet coefficients, the inverse of `wavelet_analysis`."""
        return packet_synthesis(coefficients, levels or self.config.levels)

    def latents(self, signal: Tensor) -> Tensor:
        """Return float latents (B, K, h, w) before rounding; transform and light encoder run in one pass."""
        if self.config.encoder != "light":
            return super().latents(signal)
        self._check_signal(signal)
        linear = self.encoder[0]
        x = signal if not signal.is_floating_point() else signal.to(self.dtype)
        z = packet_encode(x, linear.weight[:, :, 0, 0], linear.bias, self.config.levels)
        return self._before_rounding(z)
