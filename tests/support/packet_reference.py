"""The wavelet packet transform level by level with pytorch-wavelets, the reference for `walloc_cdl.kernels`."""

import torch
from einops import rearrange
from torch import Tensor

from walloc_cdl.codec.packets import AnalysisLevel, AnalysisLevel1D, SynthesisLevel, SynthesisLevel1D


def reference_analysis(x: Tensor, wt: AnalysisLevel, levels: int) -> Tensor:
    """Compute `kernels.packets.packet_analysis` level by level.

    The result is equal if every level has a side of at least 10 (40 pixels for three levels). Below, pytorch-wavelets
    does not wrap often enough, and its transform has no inverse.
    """
    for _ in range(levels):
        low, (high,) = wt(x)
        x = rearrange(torch.cat([low.unsqueeze(2), high], dim=2), "b c f h w -> b (c f) h w")
    return x


def reference_synthesis(coefficients: Tensor, iwt: SynthesisLevel, levels: int) -> Tensor:
    """Compute `kernels.packets.packet_synthesis` level by level, with the limits of `reference_analysis`."""
    x = coefficients
    for _ in range(levels):
        bands = rearrange(x, "b (c f) h w -> b c f h w", f=4)
        x = iwt((bands[:, :, 0], [bands[:, :, 1:]]))
    return x


def reference_analysis_1d(x: Tensor, wt: AnalysisLevel1D, levels: int) -> Tensor:
    """Compute `kernels.packets_1d.packet_analysis_1d` level by level; equal for levels of at least 10 samples."""
    for _ in range(levels):
        low, (high,) = wt(x)
        x = rearrange(torch.stack([low, high], dim=2), "b c f t -> b (c f) t")
    return x


def reference_synthesis_1d(coefficients: Tensor, iwt: SynthesisLevel1D, levels: int) -> Tensor:
    """Compute `kernels.packets_1d.packet_synthesis_1d` level by level, with the limits of `reference_analysis_1d`."""
    x = coefficients
    for _ in range(levels):
        low, high = rearrange(x, "b (c f) t -> f b c t", f=2)
        x = iwt((low.contiguous(), [high.contiguous()]))
    return x
