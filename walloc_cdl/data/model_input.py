"""`ModelInput`: converts stored bytes to the float input of a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.lookup import lookup_codes
from walloc_cdl.kernels.gpu.unpack import lookup_rows
from walloc_cdl.latents import ChannelStatistics
from walloc_cdl.planes.levels import LevelTables, channel_values
from walloc_cdl.planes.prefixes import mean_index, prefix_index, values_of_all_bits
from walloc_cdl.planes.rows import row_bytes
from walloc_cdl.spec import LatentSpec


class ModelInput(nn.Module):
    """Inverse companding and scaling by one table lookup.

    Converts uint8 (B, K, h, w), or (B, K, t) for audio, to float32 of the same shape, or to the type to which the
    model was converted, such as by `model.half()`. Of latents with bit planes it takes codes and, given the size of
    their `grid`, (h, w) or (t,), the rows of these planes, (B, R), as they are stored:

        x = s (v - μ_c) / σ_c^α

    v are the values that the bytes represent (`LatentSpec.byte_values`, or the `levels` of bit planes), and μ_c and σ_c
    the statistics of the channel. α = 0 keeps the proportions of the channels, α = 1 makes every variance one. The
    scalar s makes the mean variance over the channels one. With `scale` = s / σ_c^α, v = x / scale + mean.

    With `prefixes`, rows of fewer planes are read, too, and a prefix of each row, as the data set of these planes has
    it: a channel without a plane has its mean. So one model serves every rate.

    All of it is saved with the model, so an evaluation never uses the statistics of another data set.
    """

    table: torch.Tensor
    """float32 (K, 256)."""
    scale: torch.Tensor
    """float32 (K,)."""
    mean: torch.Tensor
    """float32 (K,): the μ_c."""
    level_values: torch.Tensor
    """float32: with `prefixes` only, x of every level of every number of bits, in the order of `LevelTables.values`."""

    def __init__(
        self,
        spec: LatentSpec,
        statistics: ChannelStatistics,
        alpha: float,
        *,
        levels: LevelTables | None = None,
        grid: tuple[int, ...] | None = None,
        prefixes: bool = False,
    ) -> None:
        super().__init__()
        if prefixes and (levels is None or grid is None):
            raise CallError("prefixes are of rows of bit planes; these latents have none, or samples of many sizes")
        if statistics.mean.shape != (spec.latent_channels,):
            raise CallError(
                f"statistics of {len(statistics.mean)} channels, expected {spec.latent_channels}; "
                "use those of the same data set"
            )
        self._axes, self._planes, self._grid = spec.axes, spec.planes, grid
        self._row_bytes = None if spec.planes is None or grid is None else row_bytes(spec, grid)
        values = _finite_values(spec, levels)
        scale = _channel_scale(values, statistics.std, alpha)
        table = (values - statistics.mean[:, None]) * scale[:, None]
        self.register_buffer("table", torch.from_numpy(table).float())
        self.register_buffer("scale", torch.from_numpy(scale).float())
        self.register_buffer("mean", torch.from_numpy(statistics.mean).float())
        self.reads_prefixes = prefixes
        if prefixes and levels is not None:
            level_values, channels = values_of_all_bits(spec, levels)
            level_values = (level_values - statistics.mean[channels]) * scale[channels]
            self.register_buffer("level_values", torch.from_numpy(level_values).float())

    def forward(self, codes: torch.Tensor, num_planes: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the model input, of the table's type, for codes, uint8, both (B, K, h, w) or (B, K, t).

        Codes may be rows, uint8 (B, R); see the class. Of rows, `num_planes`, int64 (B,), is the number of bit planes
        that each sample is read with, all by default; it needs `prefixes`.
        """
        num_channels = self.table.shape[0]
        if num_planes is not None or (self.reads_prefixes and self._is_prefix(codes)):
            return self._prefixes_of(codes, num_planes)
        if self._row_bytes is not None and codes.ndim == 2:
            if codes.dtype != torch.uint8 or codes.shape[1] != self._row_bytes:
                raise CallError(
                    f"rows are {codes.dtype} {list(codes.shape)}, expected torch.uint8 [B, {self._row_bytes}] of "
                    f"{len(self._planes)} bit planes; open the data set with num_planes={len(self._planes)}"
                )
            return lookup_rows(codes, self.table, self._planes, self._grid)
        if codes.dtype != torch.uint8 or codes.ndim != 1 + len(self._axes) or codes.shape[1] != num_channels:
            expected = ", ".join(["B", str(num_channels), *self._axes[1:]])
            raise CallError(
                f"codes are {codes.dtype} {list(codes.shape)}, expected torch.uint8 [{expected}]; "
                "use the data set that the model was built for"
            )
        return lookup_codes(codes, self.table)

    def _is_prefix(self, codes: torch.Tensor) -> bool:
        """Whether these are rows of fewer planes than all; those of none or of part of one are refused elsewhere."""
        if codes.ndim != 2 or codes.dtype != torch.uint8 or self._row_bytes is None:
            return False
        size = self._row_bytes // len(self._planes)
        return 0 < codes.shape[1] < self._row_bytes and codes.shape[1] % size == 0

    def _prefixes_of(self, rows: torch.Tensor, num_planes: torch.Tensor | None) -> torch.Tensor:
        """Returns x of rows (B, R), each of which is read with its own number of planes."""
        if not self.reads_prefixes or rows.ndim != 2 or self._grid is None or self._row_bytes is None:
            raise CallError(
                f"a number of bit planes for each of codes {list(rows.shape)}; only rows (B, R) of a model input with "
                "prefixes have prefixes: build it with prefixes=True, and read rows as LatentLoader gives them"
            )
        size = self._row_bytes // len(self._planes)
        stored = rows.shape[1] // size
        means = self.level_values[_on(rows.device, mean_index, self._planes)]
        x = means.reshape(1, -1, *(1 for _ in self._grid)).repeat(len(rows), 1, *self._grid)
        counts = [stored] if num_planes is None else torch.unique(num_planes).tolist()
        if counts and not 1 <= counts[0] <= counts[-1] <= stored:
            raise CallError(f"{counts[0]} to {counts[-1]} bit planes of rows that have {stored}; give 1 to {stored}")
        for count in counts:
            table = self.level_values[_on(rows.device, prefix_index, self._planes, count)]
            if num_planes is None:
                x[:, : len(table)] = lookup_rows(rows, table, self._planes[:count], self._grid)
            else:
                chosen = (num_planes == count).nonzero()[:, 0]
                x[chosen, : len(table)] = lookup_rows(rows[chosen], table, self._planes[:count], self._grid)
        return x


@lru_cache(maxsize=512)
def _on(device: torch.device, make: Callable[..., np.ndarray], *arguments: Any) -> torch.Tensor:
    """Returns the array that `make` returns, on a device, where it is kept: a copy would wait for a GPU."""
    return torch.from_numpy(make(*arguments)).to(device)


def _finite_values(spec: LatentSpec, levels: LevelTables | None) -> np.ndarray:
    """Returns the values of bytes, float64 (K, 256), with the nearest valid value for those that cannot occur.

    So no NaN is saved.
    """
    low, high = spec.byte_range
    return channel_values(spec, levels)[:, np.clip(np.arange(256), low, high)]


def _channel_scale(values: np.ndarray, std: np.ndarray, alpha: float) -> np.ndarray:
    """Returns s / σ_c^α, float64 (K,).

    A standard deviation below the rounding noise of a code (step / √12) is replaced by that noise, since a constant
    channel would be divided by zero.
    """
    steps = np.diff(values, axis=1)
    floor = np.where(steps > 0, steps, np.inf).min(1) / np.sqrt(12)
    floor = np.where(np.isfinite(floor), floor, 1.0)  # a channel of equal levels
    weights = np.maximum(std, floor) ** -alpha
    mean_variance = float(np.mean((std * weights) ** 2))
    return weights / np.sqrt(mean_variance) if mean_variance > 0 else weights
