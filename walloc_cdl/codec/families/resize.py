"""Resolution reduction of images as a codec, the baseline that latents are compared with.

In a comparison such as `pixels-64@128`, a smaller image is enlarged by a linear synthesis fitted to the data, as
latents are, which is at least as good as bicubic enlargement: the baseline gets the same treatment as the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.codec.config import MAX_CHANNELS, CodecConfig, require_between, require_name
from walloc_cdl.codec.families.resampling import ResamplingCodec

MAX_FACTOR = 65_536


@dataclass(frozen=True)
class ResizeConfig(CodecConfig):
    """Configuration of a `ResizeCodec`."""

    channels: int = 3
    factor: int = 4
    """Side of the source block of each stored pixel, in pixels."""
    name: str = "resize"

    type: ClassVar[str] = "resize"
    always_written: ClassVar[tuple[str, ...]] = ("channels", "factor", "name")

    def __post_init__(self) -> None:
        require_between(self.channels, 1, MAX_CHANNELS, "channels to resize")
        require_between(self.factor, 1, MAX_FACTOR, "as the factor to resize by")
        require_name(self.name)


def shrink(image: Tensor, size: Sequence[int]) -> Tensor:
    """Resize float images (B, C, H, W) to a smaller (height, width) with the antialiased bicubic filter of Pillow."""
    if size[1] == 1:
        # torch 2.14 shrinks an image to one column incorrectly, as copies of its first row, so rows are resized first.
        image = interpolate(image, size=(size[0], image.shape[3]), mode="bicubic", antialias=True)
    return interpolate(image, size=tuple(size), mode="bicubic", antialias=True)


class ResizeCodec(ResamplingCodec):
    """Reduces images by an integer factor with an antialiased bicubic filter, and stores them as uint8 pixels.

    Its companding is `none`; its decoder enlarges with the bicubic filter.

    >>> ResizeCodec(ResizeConfig(channels=1, factor=4)).encode(torch.zeros(1, 1, 256, 256)).shape
    torch.Size([1, 1, 64, 64])
    """

    config_class = ResizeConfig
    reach = 4

    def __init__(self, config: ResizeConfig) -> None:
        super().__init__(
            name=config.name,
            kind="image",
            source_channels=config.channels,
            latent_channels=config.channels,
            stride=config.factor,
            bits=8,
            companding="none",
        )
        self.config = config
        self.eval()

    def latents(self, signal: Tensor) -> Tensor:
        """Return the smaller image before rounding, in units of 1/255 from 0 to 255."""
        self._check_signal(signal)
        size = [side // self.config.factor for side in signal.shape[2:]]
        pixels = to_unit_range(signal)
        small = pixels if self.config.factor == 1 else shrink(pixels, size)
        return ((small + 0.5) * 255).clamp(0, 255)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the stored image enlarged to (B, C, H, W), in [-0.5, 0.5]."""
        self.check_codes(codes)
        size = [side * self.config.factor for side in codes.shape[2:]]
        return interpolate(self.values(codes), size=size, mode="bicubic").clamp(-0.5, 0.5)

    def encoder_id(self) -> str:
        """Return the codec id; see `Codec.encoder_id`."""
        config = self.config
        side = {
            "type": "resize",
            "filter": "bicubic-antialias",
            "channels": config.channels,
            "factor": config.factor,
        }
        return sha256_hex(canonical_json(side))

    def decoder_id(self) -> str:
        """Return the id of the decoding side; see `Codec.decoder_id`."""
        return sha256_hex(b"bicubic")
