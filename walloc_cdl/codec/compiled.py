"""When `encode` takes a compiled path, and the compiled encoder that belongs to a codec's weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.kernels.gpu.encode import GpuEncoder, runs_kernels
from walloc_cdl.kernels.gpu.self_test import passes_self_test

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder


SELF_TEST_SAMPLES = {1: 2**15, 2: 2**9}
"""Samples of each side of the signal that a self-test encodes, by dimensions; a multiple of every stride."""


class CompiledEncoder:
    """The compiled encoder of one linear layer, made anew whenever the layer's weights have changed.

    For signals in the memory it is numba's, on a GPU Triton's. There a comparison of the weights would wait for the
    device, so that changes are known by torch's count of them, which edits of a parameter's `.data` escape.
    """

    def __init__(self, *, levels: int, dimensions: int, bits: int) -> None:
        self._shape = {"levels": levels, "dimensions": dimensions}
        self._bits = bits
        self._weights: tuple[Tensor, ...] = ()
        self._changes: tuple[int, ...] | None = None
        self._encoder: FusedEncoder | GpuEncoder | None = None
        self._failed: set[torch.device] = set()

    def encode(self, linear: nn.Module, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Stored codes of the signal's own positions, or None where the plain path must do.

        That is for weights and signals on different devices, or on one that has no compiled path here; for weights
        of another type than float32; for codecs that are too large for a GPU's kernels; and on a GPU on which they
        fail a self-test, which encodes a part of the first signal and compares it with `plain`. `torch.compile` breaks
        its graph here.
        """
        if torch.compiler.is_compiling():
            # Disabled here and not by a decorator, since importing torch's compiler takes seconds.
            return torch.compiler.disable(self._encode)(linear, signal, plain)
        return self._encode(linear, signal, plain)

    def detached(self, linear: nn.Module) -> FusedEncoder | None:
        """The encoder for signals in the memory by itself, wherever the weights are; None as for `encode`."""
        if linear.weight.dtype != torch.float32:
            return None
        return self._fused(linear.weight.detach().cpu(), linear.bias.detach().cpu())

    def _encode(self, linear: nn.Module, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> Tensor | None:
        weight, bias = linear.weight.detach(), linear.bias.detach()
        if signal.device != weight.device or weight.dtype != torch.float32:
            return None
        if not runs_kernels(weight.device):  # which Triton's interpreter does on the CPU, too
            if weight.device.type != "cpu":
                return None
            x = to_unit_range(signal) if signal.is_floating_point() else signal
            return torch.from_numpy(self._on_cpu(weight, bias).encode(x.detach().numpy(), torch.get_num_threads()))
        if weight.device in self._failed:
            return None
        if not GpuEncoder.fits(weight.shape, **self._shape, device=weight.device):
            return None
        encoder = self._on_gpu(weight, bias, signal.detach(), plain)
        return None if encoder is None else encoder.encode(signal.detach())

    def _on_cpu(self, weight: Tensor, bias: Tensor) -> FusedEncoder:
        fused = importlib.import_module("walloc_cdl.kernels.cpu.fused")  # with numba, which takes half a second
        if not isinstance(self._encoder, fused.FusedEncoder) or not all(map(_equal, self._weights, (weight, bias))):
            self._encoder = self._fused(weight, bias)
            self._weights = weight.clone(), bias.clone()
        return self._encoder

    def _fused(self, weight: Tensor, bias: Tensor) -> FusedEncoder:
        fused = importlib.import_module("walloc_cdl.kernels.cpu.fused")
        return fused.FusedEncoder(weight.flatten(1).numpy(), bias.numpy(), **self._shape, bits=self._bits)

    def _on_gpu(
        self, weight: Tensor, bias: Tensor, signal: Tensor, plain: Callable[[Tensor], Tensor]
    ) -> GpuEncoder | None:
        changes = _changes(weight, bias)
        is_same = isinstance(self._encoder, GpuEncoder) and (
            changes == self._changes if changes else all(map(_equal, self._weights, (weight, bias)))
        )
        if not is_same:
            arrays = weight.flatten(1).cpu().numpy(), bias.cpu().numpy()
            encoder = GpuEncoder(*arrays, **self._shape, bits=self._bits, device=weight.device)
            if not isinstance(self._encoder, GpuEncoder):  # the first one here
                dimensions = self._shape["dimensions"]
                part = signal[(slice(1), slice(None), *[slice(SELF_TEST_SAMPLES[dimensions])] * dimensions)]
                what = "the GPU's encoder"
                if not passes_self_test(
                    lambda: encoder.encode(part), lambda: plain(part), what=what, device=weight.device
                ):
                    self._failed.add(weight.device)
                    return None
            self._encoder = encoder
            # Kept as they are, so that no other tensor can come to lie where these do.
            self._weights = (weight, bias) if changes else (weight.clone(), bias.clone())
            self._changes = changes
        return self._encoder


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return ours.device == theirs.device and torch.equal(ours, theirs)


def _changes(*tensors: Tensor) -> tuple[int, ...] | None:
    """Where tensors lie and how often they have been changed; None for those of inference mode, which don't count."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(number for tensor in tensors for number in (tensor.data_ptr(), tensor._version))
