"""One level of the wavelet packet transform with pytorch-wavelets, as in the published codecs.

The modules have the buffers of the published codecs (`wt.h0_col`, …), so that a published `state_dict` loads unchanged.
Codecs transform by `walloc_cdl.kernels` instead, which equals these modules applied level by level
(tests/support/packet_reference.py) and is several times as fast. pytorch-wavelets is imported only when a module is
called: it needs `pkg_resources`, which newer versions of setuptools no longer include.

pytorch-wavelets, and with it the `walloc` package, does not wrap far enough when a level is shorter than 10 samples, so
that below 40 pixels at three levels its transform has no inverse. `walloc_cdl.kernels` is periodic at every size, and
equal to these modules from that size on.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
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


# Padded to the length 10 and to the alignment that pytorch-wavelets uses.
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
    """Splits an image (B, C, H, W) into its low band (B, C, H/2, W/2) and the other three [(B, C, 3, H/2, W/2)]."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps(self, "h", ANALYSIS_TAPS)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Analyze one level; raise `CallError` if pytorch-wavelets cannot be imported."""
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
        """Synthesize one level; raise `CallError` if pytorch-wavelets cannot be imported."""
        low, (high,) = bands
        filters = self.g0_col, self.g1_col, self.g0_row, self.g1_row
        lowlevel = _pytorch_wavelets()
        return lowlevel.SFB2D.apply(low, high, *filters, lowlevel.mode_to_int("periodization"))


class AnalysisLevel1D(nn.Module):
    """Splits a sequence (B, C, T) into its low band (B, C, T/2) and its high band [(B, C, T/2)]."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps_1d(self, "h", ANALYSIS_TAPS)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Analyze one level; raise `CallError` if pytorch-wavelets cannot be imported."""
        lowlevel = _pytorch_wavelets()
        low, high = lowlevel.AFB1D.apply(x, self.h0, self.h1, lowlevel.mode_to_int("periodization"))
        return low, [high]


class SynthesisLevel1D(nn.Module):
    """Inverse of `AnalysisLevel1D`."""

    def __init__(self) -> None:
        super().__init__()
        _register_taps_1d(self, "g", SYNTHESIS_TAPS)

    def forward(self, bands: tuple[Tensor, list[Tensor]]) -> Tensor:
        """Synthesize one level; raise `CallError` if pytorch-wavelets cannot be imported."""
        low, (high,) = bands
        lowlevel = _pytorch_wavelets()
        return lowlevel.SFB1D.apply(low, high, self.g0, self.g1, lowlevel.mode_to_int("periodization"))
