"""The encoder of a codec as a graph: pixels to codes, by products with constant matrices and comparisons.

The packet transform of an image of one size is M · X · Mᵀ, and so is resolution reduction. A level is found by a
binary search in the channel's thresholds. `Codec.encode` computes the same with faster kernels, and in another order of
sums: of codes whose value lies within the last bits of a threshold, a few differ by one level.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from walloc_cdl.codec import Codec
from walloc_cdl.codec.families.resize import ResizeCodec, shrink
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D
from walloc_cdl.codec.level_quantizer import LevelQuantizer
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.filters import analysis_matrix, band_order
from walloc_cdl.spec import code_limit, count_planes


def pixels_to_codes(codec: Codec, size: tuple[int, int]) -> nn.Module:
    """Returns the module that computes codes int64 (B, K, h, w) of pixels uint8 (B, C, H, W) of one size.

    Raises `CallError` for a family of codecs that cannot be exported.
    """
    if isinstance(codec, WallocCodec2D):
        return PacketEncoder(codec, size)
    if isinstance(codec, ResizeCodec):
        return ResizeEncoder(codec, size)
    raise CallError(
        f"codec {codec.name} is of the family {codec.config_class.type}, whose encoder cannot be exported; export the "
        "classifier from codes (omit --from pixels), and encode with the codec"
    )


class PacketEncoder(nn.Module):
    """The encoder of a WaLLoC codec of images."""

    rows: Tensor
    """float32 (H, H): the packet transform of a column of pixels."""
    columns: Tensor
    """float32 (W, W): that of a row of pixels."""
    order: Tensor
    """int64 (4^J,): the published order of the bands."""

    def __init__(self, codec: WallocCodec2D, size: tuple[int, int]) -> None:
        super().__init__()
        self._levels, self._channels, self._size = codec.config.levels, codec.source_channels, size
        for name, side in zip(("rows", "columns"), size, strict=True):
            matrix = torch.from_numpy(analysis_matrix(side, self._levels).astype(np.float32))
            self.register_buffer(name, matrix)
        self.register_buffer("order", torch.as_tensor(np.asarray(band_order(self._levels))).long())
        self.mix = codec.encoder[0]
        if codec.quantizer is not None:
            self.quantize: nn.Module = LevelSearch(codec.quantizer, count_planes(codec.planes)[1])
        else:
            self.quantize = CompandedCodes(codec.encoder[1], code_limit(codec.bits) + 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the codes of pixels."""
        x = pixels.float() / 255 - 0.5
        bands = 2**self._levels
        height, width = (side // bands for side in self._size)
        tiles = torch.matmul(torch.matmul(self.rows, x), self.columns.T)
        grid = tiles.reshape(-1, self._channels, height, bands, width, bands).permute(0, 1, 3, 5, 2, 4)
        natural = grid.reshape(-1, self._channels, bands * bands, height, width)
        coefficients = natural.index_select(2, self.order).reshape(-1, self._channels * bands**2, height, width)
        return self.quantize(self.mix(coefficients))


class LevelSearch(nn.Module):
    """Numbers of levels, int64 (B, K, h, w), of the channels (B, at least K, h, w) of a codec with bit planes."""

    thresholds: Tensor
    """float32 (K 2^b,): the sorted thresholds of each channel, then infinity."""
    first: Tensor
    """int64 (1, K, 1, 1): where those of each channel begin."""

    def __init__(self, quantizer: LevelQuantizer, channel_bits: tuple[int, ...]) -> None:
        super().__init__()
        self._bits = max(channel_bits)
        padded = np.full((len(channel_bits), 2**self._bits), np.inf, np.float32)
        tables = quantizer.tables
        for channel, bits in enumerate(channel_bits):
            values = tables.channel_thresholds(channel, bits)
            padded[channel, : len(values)] = values
        self.register_buffer("thresholds", torch.from_numpy(padded.ravel()))
        self.register_buffer("first", torch.arange(len(padded)).reshape(1, -1, 1, 1) * 2**self._bits)

    def forward(self, latents: Tensor) -> Tensor:
        """Returns how many thresholds are at most the value."""
        z = latents[:, : self.first.shape[1]]
        found = torch.zeros_like(z, dtype=torch.int64)
        for step in (2**bit for bit in reversed(range(self._bits))):
            found = found + step * (z >= self.thresholds[found + self.first + (step - 1)]).long()
        return found


class CompandedCodes(nn.Module):
    """Rounded codes, int64 (B, K, h, w), of latents before the companding."""

    def __init__(self, compand: nn.Module, offset: int) -> None:
        super().__init__()
        self._scale, self._limit = float(compand.scale), float(compand.limit)
        self._offset = offset

    def forward(self, latents: Tensor) -> Tensor:
        """Returns the stored bytes."""
        companded = self._limit * torch.erf(latents / (self._scale * math.sqrt(2)))
        return (torch.round(companded) + self._offset).long()


class ResizeEncoder(nn.Module):
    """Resolution reduction as two products: the resampling of each axis is a matrix."""

    rows: Tensor
    """float32 (h, H)."""
    columns: Tensor
    """float32 (w, W)."""

    def __init__(self, codec: ResizeCodec, size: tuple[int, int]) -> None:
        super().__init__()
        for name, side in zip(("rows", "columns"), size, strict=True):
            unit = torch.eye(side, dtype=torch.float64)[None, None]
            matrix = unit if codec.stride == 1 else shrink(unit, (side // codec.stride, side))
            self.register_buffer(name, matrix[0, 0].float())

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the smaller pixels, from 0 to 255."""
        small = torch.matmul(torch.matmul(self.rows, pixels.float() / 255), self.columns.T)
        return torch.round((small * 255).clamp(0, 255)).long()
