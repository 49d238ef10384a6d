"""Resolution reduction as a codec: the baseline, behind the same interface as the latents."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import interpolate

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.errors import CallError
from walloc_cdl.spec import LatentSpec


@dataclass(frozen=True)
class ResizeConfig:
    """What fixes a `ResizeCodec`."""

    channels: int = 3
    factor: int = 4
    """Source pixels a side for each stored pixel."""
    name: str = "resize"

    def __post_init__(self) -> None:
        if self.factor < 1 or self.channels < 1:
            raise CallError(f"resize by {self.factor} of {self.channels} channels; both must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """Fields of `config.json`."""
        return {"format": "walloc-cdl-codec", "format_version": 1, "type": "resize", **dataclasses.asdict(self)}


class ResizeCodec(Codec):
    """The image made smaller by a whole factor with an antialiased bicubic filter, stored as uint8 pixels.

    Its codes are pixels, its companding is `none`, its decoder enlarges with the bicubic filter.

    >>> ResizeCodec(ResizeConfig(channels=1, factor=4)).encode(torch.zeros(1, 1, 256, 256)).shape
    torch.Size([1, 1, 64, 64])
    """

    def __init__(self, config: ResizeConfig) -> None:
        super().__init__(
            name=config.name,
            source_channels=config.channels,
            latent_channels=config.channels,
            stride=config.factor,
            bits=8,
            companding="none",
        )
        self.config = config
        self.eval()

    @property
    def spec(self) -> LatentSpec:
        """See `Codec.spec`."""
        channels, factor = self.config.channels, self.config.factor
        side = {"type": "resize", "filter": "bicubic-antialias", "channels": channels, "factor": factor}
        return LatentSpec(
            codec_id=sha256_hex(canonical_json(side)),
            kind="image",
            source_channels=channels,
            latent_channels=channels,
            stride=factor,
            bits=8,
            companding="none",
        )

    def latents(self, pixels: Tensor) -> Tensor:
        """The smaller image before rounding, in units of 1/255 from 0 to 255."""
        self._check_pixels(pixels)
        size = [side // self.config.factor for side in pixels.shape[2:]]
        if self.config.factor == 1:
            small = to_unit_range(pixels)
        else:
            small = interpolate(to_unit_range(pixels), size=size, mode="bicubic", antialias=True)
        return ((small + 0.5) * 255).clamp(0, 255)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Stored pixels uint8 (B, C, h, w); see `Codec.encode`."""
        return self.latents(pixels).round().to(torch.uint8)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The stored image enlarged to (B, C, H, W), in [-0.5, 0.5]."""
        size = [side * self.config.factor for side in codes.shape[2:]]
        return interpolate(self.values(codes), size=size, mode="bicubic").clamp(-0.5, 0.5)

    def files(self) -> dict[str, bytes]:
        """See `Codec.files`."""
        config = json.dumps(self.config.to_json(), indent=1, sort_keys=True) + "\n"
        return {"config.json": config.encode(), "model.safetensors": save({})}

    def decoder_id(self) -> str:
        """See `Codec.decoder_id`."""
        return sha256_hex(b"bicubic")
