"""`ModelInput`: converts stored bytes to the float input of a model."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.lookup import lookup_codes
from walloc_cdl.kernels.gpu.unpack import lookup_rows
from walloc_cdl.latents import ChannelStatistics
from walloc_cdl.planes.levels import LevelTables, channel_values
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

    All of it is saved with the model, so an evaluation never uses the statistics of another data set.
    """

    table: torch.Tensor
    """float32 (K, 256)."""
    scale: torch.Tensor
    """float32 (K,)."""
    mean: torch.Tensor
    """float32 (K,): the μ_c."""

    def __init__(
        self,
        spec: LatentSpec,
        statistics: ChannelStatistics,
        alpha: float,
        *,
        levels: LevelTables | None = None,
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
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

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Returns the model input, of the table's type, for codes, uint8, both (B, K, h, w) or (B, K, t).

        Codes may be rows, uint8 (B, R); see the class.
        """
        num_channels = self.table.shape[0]
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
