"""`ModelInput`: the one place where stored bytes become a model's floats."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.lookup import lookup_codes
from walloc_cdl.latents import ChannelStatistics
from walloc_cdl.spec import LatentSpec


class ModelInput(nn.Module):
    """Inverse companding and scaling by one table lookup: uint8 (B, K, h, w), or (B, K, t) of audio, to float32 of
    the same shape.

        x = s (v - μ_c) / σ_c^α

    v are the values that the bytes stand for (`LatentSpec.byte_values`), μ_c and σ_c the channel's
    statistics; α = 0 keeps the channels' proportions, α = 1 makes every variance one. The scalar s gives
    unit mean variance over the channels. With `scale` = s / σ_c^α, v = x / scale + mean.

    All is saved with the model, so an evaluation never uses another data set's statistics.
    """

    table: torch.Tensor
    """float32 (K, 256)."""
    scale: torch.Tensor
    """float32 (K,)."""
    mean: torch.Tensor
    """float32 (K,): the μ_c."""

    def __init__(self, spec: LatentSpec, statistics: ChannelStatistics, alpha: float) -> None:
        super().__init__()
        if statistics.mean.shape != (spec.latent_channels,):
            raise CallError(
                f"statistics of {len(statistics.mean)} channels for latents of {spec.latent_channels}; "
                "use those of the same data set"
            )
        self._axes = spec.axes
        values = _finite_values(spec)
        scale = _channel_scale(values, statistics.std, alpha)
        table = (values - statistics.mean[:, None]) * scale[:, None]
        self.register_buffer("table", torch.from_numpy(table).float())
        self.register_buffer("scale", torch.from_numpy(scale).float())
        self.register_buffer("mean", torch.from_numpy(statistics.mean).float())

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Model input, float32, from codes, uint8, both (B, K, h, w) or (B, K, t)."""
        num_channels = self.table.shape[0]
        if codes.dtype != torch.uint8 or codes.ndim != 1 + len(self._axes) or codes.shape[1] != num_channels:
            wanted = ", ".join(["B", str(num_channels), *self._axes[1:]])
            raise CallError(
                f"codes are {codes.dtype} {list(codes.shape)}, expected torch.uint8 [{wanted}]; "
                "use the data set that the model was made for"
            )
        return lookup_codes(codes, self.table)


def _finite_values(spec: LatentSpec) -> np.ndarray:
    """`byte_values` where bytes that cannot occur stand for the nearest value that can, so that no NaN is saved."""
    low, high = spec.byte_range
    return spec.byte_values()[np.clip(np.arange(256), low, high)]


def _channel_scale(values: np.ndarray, std: np.ndarray, alpha: float) -> np.ndarray:
    """s / σ_c^α, float64 (K,).

    A channel quieter than the rounding noise of a code (step / √12) is scaled as if it were that loud:
    a dead channel would be divided by zero.
    """
    steps = np.diff(values)
    floor = steps[steps > 0].min() / np.sqrt(12)
    weights = np.maximum(std, floor) ** -alpha
    mean_variance = float(np.mean((std * weights) ** 2))
    return weights / np.sqrt(mean_variance) if mean_variance > 0 else weights
