"""One level of the wavelet packet transform by pytorch-wavelets: the reference of the fast paths.

The modules have the buffers of the published codecs (`wt.h0_col`, …), so that a published
`state_dict` loads as it is. pytorch-wavelets is imported when one of them is called, not before: it
needs `pkg_resources`, which newer setuptools no longer bring.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from einops import rearrange
from torch import Tensor, nn

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.filters import HIGHPASS, LOWPASS


def _pytorch_wavelets() -> ModuleType:
    try:
        return importlib.import_module("pytorch_wavelets.dwt.lowlevel")
    except ImportError as error:
        raise CallError(
            f"the plain wavelet path needs pytorch-wavelets, which cannot be imported ({error}); "
            "`pip install pytorch-wavelets 'setuptools<81'`, or use the default path"
        ) from error


# Each in the length of 10 and the alignment in which pytorch-wavelets convolves with it.
ANALYSIS_TAPS = ([*LOWPASS, 0.0], [0.0, 0.0, *HIGHPASS, 0.0])
# Biorthogonal pair: each synthesis filter is the other analysis filter with alternating sign.
SYNTHESIS_TAPS = (
    [0.0, *(tap * (-1) ** (i + 1) for i, tap in enumerate(HIGHPASS, start=1)), 0.0, 0.0],
    [0.0, *(tap * (-1) ** (i + 1) for i, tap in enumerate(LOWPASS))],
)


def _register_taps(module: nn.Module, prefix: str, filters: tuple[list[float], list[float]]) -> None:
    for index, taps in enumerate(filters):
        for axis, shape in (("col", (1, 1, -1, 1)), ("row", (1, 1, 1, -1))):
            module.register_buffer(f"{prefix}{index}_{axis}", torch.tensor(taps, dtype=torch.float32).reshape(shape))


def _register_taps_1d(module: nn.Module, prefix: str, filters: tuple[list[float], list[float]]) -> None:
    for index, taps in enumerate(filters):
        module.register_buffer(f"{prefix}{index}", torch.tensor(taps, dtype=torch.float32).reshape(1, 1, -1))


class AnalysisLevel(nn.Module):
    """Image (B, C, H, W) to its low band (B, C, H/2, W/2) and its three others [(B, C, 3, H/2, W/2)]."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps(self, "h", ANALYSIS_TAPS)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Analyze one level; raises `CallError` without pytorch-wavelets."""
        filters = self.h0_col, self.h1_col, self.h0_row, self.h1_row
        lowlevel = _pytorch_wavelets()
        low, high = lowlevel.AFB2D.apply(x, *filters, lowlevel.mode_to_int("periodization"))
        return low, [high]


class SynthesisLevel(nn.Module):
    """Inverse of `AnalysisLevel`."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps(self, "g", SYNTHESIS_TAPS)

    def forward(self, bands: tuple[Tensor, list[Tensor]]) -> Tensor:
        """Synthesize one level; raises `CallError` without pytorch-wavelets."""
        low, (high,) = bands
        filters = self.g0_col, self.g1_col, self.g0_row, self.g1_row
        lowlevel = _pytorch_wavelets()
        return lowlevel.SFB2D.apply(low, high, *filters, lowlevel.mode_to_int("periodization"))


class AnalysisLevel1D(nn.Module):
    """Sequence (B, C, T) to its low band (B, C, T/2) and its high one [(B, C, T/2)]."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps_1d(self, "h", ANALYSIS_TAPS)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Analyze one level; raises `CallError` without pytorch-wavelets."""
        lowlevel = _pytorch_wavelets()
        low, high = lowlevel.AFB1D.apply(x, self.h0, self.h1, lowlevel.mode_to_int("periodization"))
        return low, [high]


class SynthesisLevel1D(nn.Module):
    """Inverse of `AnalysisLevel1D`."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps_1d(self, "g", SYNTHESIS_TAPS)

    def forward(self, bands: tuple[Tensor, list[Tensor]]) -> Tensor:
        """Synthesize one level; raises `CallError` without pytorch-wavelets."""
        low, (high,) = bands
        lowlevel = _pytorch_wavelets()
        return lowlevel.SFB1D.apply(low, high, self.g0, self.g1, lowlevel.mode_to_int("periodization"))


def reference_analysis(x: Tensor, wt: AnalysisLevel, levels: int) -> Tensor:
    """`kernels.packets.packet_analysis`, level by level.

    Equal to it where every level is at least 10 long on each side (40 pixels for three levels):
    below, pytorch-wavelets does not wrap often enough and its transform has no inverse.
    """
    for _ in range(levels):
        low, (high,) = wt(x)
        x = rearrange(torch.cat([low.unsqueeze(2), high], dim=2), "b c f h w -> b (c f) h w")
    return x


def reference_synthesis(coefficients: Tensor, iwt: SynthesisLevel, levels: int) -> Tensor:
    """`kernels.packets.packet_synthesis`, level by level; the same limits as `reference_analysis`."""
    x = coefficients
    for _ in range(levels):
        bands = rearrange(x, "b (c f) h w -> b c f h w", f=4)
        x = iwt((bands[:, :, 0], [bands[:, :, 1:]]))
    return x


def reference_analysis_1d(x: Tensor, wt: AnalysisLevel1D, levels: int) -> Tensor:
    """`kernels.packets_1d.packet_analysis_1d`, level by level; equal where every level is at least 10 long."""
    for _ in range(levels):
        low, (high,) = wt(x)
        x = rearrange(torch.stack([low, high], dim=2), "b c f t -> b (c f) t")
    return x


def reference_synthesis_1d(coefficients: Tensor, iwt: SynthesisLevel1D, levels: int) -> Tensor:
    """`kernels.packets_1d.packet_synthesis_1d`, level by level; the same limits as `reference_analysis_1d`."""
    x = coefficients
    for _ in range(levels):
        low, high = rearrange(x, "b (c f) t -> f b c t", f=2)
        x = iwt((low.contiguous(), [high.contiguous()]))
    return x
