"""`LevelQuantizer`: the bottleneck of codecs with bit planes, which takes the place of companding and rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from walloc_cdl.planes.levels import LevelTables


class LevelQuantizer(nn.Module):
    """Quantizes each latent channel by its own table of sorted levels; see `walloc_cdl.planes`.

    The tables are buffers, so that they are saved with the weights, and the codec id depends on them.
    """

    thresholds: Tensor
    """float32, see `LevelTables.thresholds`."""
    values: Tensor
    """float32, see `LevelTables.values`."""

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("thresholds", torch.zeros(sum(2**count - 1 for count in bits)))
        self.register_buffer("values", torch.zeros(sum(2 ** (count + 1) - 1 for count in bits)))

    def set_tables(self, tables: LevelTables) -> None:
        """Take these tables, which are for the same bits."""
        self.thresholds.copy_(torch.from_numpy(tables.thresholds))
        self.values.copy_(torch.from_numpy(tables.values))

    @property
    def tables(self) -> LevelTables:
        """A copy of the tables in host memory."""
        return LevelTables(
            self.bits,
            np.array(self.thresholds.detach().cpu().numpy(), np.float32),
            np.array(self.values.detach().cpu().numpy(), np.float32),
        )

    def quantize(self, latents: Tensor, channel_bits: tuple[int, ...]) -> Tensor:
        """Return codes of these bits, uint8 (B, K, …), of latents float (B, at least K, …)."""
        shape = (len(latents), len(channel_bits), *latents.shape[2:])
        codes = torch.empty(shape, dtype=torch.uint8, device=latents.device)
        tables = self.tables
        for channel, bits in enumerate(channel_bits):
            thresholds = torch.from_numpy(tables.channel_thresholds(channel, bits).copy()).to(latents)
            codes[:, channel] = torch.bucketize(latents[:, channel].contiguous(), thresholds, right=True)
        return codes

    def dequantize(self, codes: Tensor, channel_bits: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the values, (B, all channels, …), of codes uint8 (B, K, …); missing channels have their means."""
        tables = self.tables
        table = torch.from_numpy(tables.values_table(channel_bits)).to(codes.device, dtype)
        means = torch.from_numpy(tables.means()).to(codes.device, dtype)
        shape = (len(codes), len(self.bits), *codes.shape[2:])
        values = means.reshape(1, -1, *[1] * (codes.ndim - 2)).expand(shape).clone()
        for channel in range(codes.shape[1]):
            values[:, channel] = table[channel][codes[:, channel].long()]
        return values

    def forward(self, latents: Tensor, channel_bits: tuple[int, ...] | None = None) -> Tensor:
        """Return latents quantized and dequantized, of the same shape.

        The gradient is that of the identity (straight-through estimator, Bengio et al. 2013).
        """
        bits = channel_bits or self.bits
        with torch.no_grad():
            values = self.dequantize(self.quantize(latents, bits), bits, latents.dtype)
        return latents + (values - latents).detach()
