"""When `encode` takes the compiled path, and the compiled encoder that belongs to a codec's weights."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from walloc_cdl.codec.base import to_unit_range

if TYPE_CHECKING:
    from walloc_cdl.kernels.fused import FusedEncoder


class CompiledEncoder:
    """The compiled encoder of one linear layer, made anew whenever the layer's weights have changed."""

    def __init__(self, *, levels: int, dimensions: int, bits: int) -> None:
        self._settings = {"levels": levels, "dimensions": dimensions, "bits": bits}
        self._weights: tuple[Tensor, Tensor] | None = None
        self._encoder: FusedEncoder | None = None

    def encode(self, linear: nn.Module, signal: Tensor) -> Tensor | None:
        """Stored codes of the signal's own positions, or None where the plain path must do.

        That is for weights and signals that are not in the memory, for weights of another type than
        float32, and where numba is not installed.
        """
        weight, bias = linear.weight.detach(), linear.bias.detach()
        on_cpu = signal.device.type == weight.device.type == "cpu"
        if not on_cpu or weight.dtype != torch.float32 or not _has_numba():
            return None
        x = signal if signal.dtype == torch.uint8 else to_unit_range(signal)
        return torch.from_numpy(self._fitting(weight, bias).encode(x.detach().numpy(), torch.get_num_threads()))

    def _fitting(self, weight: Tensor, bias: Tensor) -> FusedEncoder:
        changed = self._weights is None or not all(map(torch.equal, self._weights, (weight, bias)))
        if self._encoder is None or changed:
            fused = importlib.import_module("walloc_cdl.kernels.fused")  # with numba, which takes half a second
            self._encoder = fused.FusedEncoder(weight.flatten(1).numpy(), bias.numpy(), **self._settings)
            self._weights = weight.clone(), bias.clone()
        return self._encoder


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None
