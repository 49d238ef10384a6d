"""Selects the compiled path of `encode`, and keeps the compiled encoder of a codec's current weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.kernels.cpu.detached import DetachedEncoder
from walloc_cdl.kernels.gpu.encode import GpuEncoder, runs_kernels
from walloc_cdl.kernels.gpu.self_test import passes_self_test

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder


SELF_TEST_SAMPLES = {1: 2**15, 2: 2**9}
"""Side length of the part of the signal that a self-test encodes, by dimensions; a multiple of every stride."""


class CompiledEncoder:
    """The compiled encoder of one linear layer, rebuilt whenever the layer's weights have changed.

    On the CPU it uses numba, on a GPU Triton. On a GPU, comparing the weights would wait for the device, so changes are
    detected by torch's version counter, which does not count edits of a parameter's `.data`.

    A compiled encoder never refers to the memory of a parameter, which moves when the codec is moved, shared with
    another process, or loaded. A copy of the codec, whether by `copy.deepcopy` or by pickling, compiles its own.
    """

    def __init__(self, *, levels: int, dimensions: int, bits: int) -> None:
        self._transform = {"levels": levels, "dimensions": dimensions}
        self._bits = bits
        self._weights: tuple[Tensor, ...] = ()
        self._last_versions: tuple[int, ...] | None = None
        self._encoder: FusedEncoder | GpuEncoder | None = None
        self._failed: set[torch.device] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._transform, bits=self._bits), ()

    def encode(self, linear: nn.Module, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Return the stored codes of the signal's own positions, or None if the plain path is required.

        The plain path is required if weights and signal are on different devices or on a device without a compiled
        path, if the weights are not float32, if the codec is too large for the GPU kernels, and on a GPU where the
        kernels fail a self-test, which encodes a part of the first signal and compares it with `plain`. `torch.compile`
        breaks its graph here.
        """
        if torch.compiler.is_compiling():
            # Disabled by a call rather than a decorator, since importing torch's compiler takes seconds.
            return torch.compiler.disable(self._encode)(linear, signal, plain)
        return self._encode(linear, signal, plain)

    def detached(self, linear: nn.Module) -> DetachedEncoder | None:
        """Return the CPU encoder of the current weights, on whichever device they are; None unless they are float32."""
        if linear.weight.dtype != torch.float32:
            return None
        weight, bias = linear.weight.detach().cpu(), linear.bias.detach().cpu()
        return DetachedEncoder(weight.flatten(1).numpy(), bias.numpy(), **self._transform, bits=self._bits)

    def _encode(self, linear: nn.Module, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> Tensor | None:
        weight, bias = linear.weight.detach(), linear.bias.detach()
        if signal.device != weight.device or weight.dtype != torch.float32:
            return None
        if not runs_kernels(weight.device):  # Triton's interpreter also runs them on the CPU
            if weight.device.type != "cpu":
                return None
            x = to_unit_range(signal) if signal.is_floating_point() else signal
            return torch.from_numpy(self._on_cpu(weight, bias).encode(x.detach().numpy(), torch.get_num_threads()))
        if weight.device in self._failed:
            return None
        if not GpuEncoder.fits(weight.shape, **self._transform, device=weight.device):
            return None
        encoder = self._on_gpu(weight, bias, signal.detach(), plain)
        return None if encoder is None else encoder.encode(signal.detach())

    def _on_cpu(self, weight: Tensor, bias: Tensor) -> FusedEncoder:
        fused = importlib.import_module("walloc_cdl.kernels.cpu.fused")  # imports numba, which takes half a second
        if not isinstance(self._encoder, fused.FusedEncoder) or not all(map(_equal, self._weights, (weight, bias))):
            # The encoder is built from the copies that later weights are compared with, since another thread or process
            # may be training the weights meanwhile.
            copies = weight.clone(), bias.clone()
            self._encoder = self._fused(*copies)
            self._weights = copies
        return self._encoder

    def _fused(self, weight: Tensor, bias: Tensor) -> FusedEncoder:
        fused = importlib.import_module("walloc_cdl.kernels.cpu.fused")
        return fused.FusedEncoder(weight.flatten(1).numpy(), bias.numpy(), **self._transform, bits=self._bits)

    def _on_gpu(
        self, weight: Tensor, bias: Tensor, signal: Tensor, plain: Callable[[Tensor], Tensor]
    ) -> GpuEncoder | None:
        versions = _versions(weight, bias)
        is_current = isinstance(self._encoder, GpuEncoder) and (
            versions == self._last_versions if versions else all(map(_equal, self._weights, (weight, bias)))
        )
        if not is_current:
            arrays = weight.flatten(1).cpu().numpy(), bias.cpu().numpy()
            encoder = GpuEncoder(*arrays, **self._transform, bits=self._bits, device=weight.device)
            if not isinstance(self._encoder, GpuEncoder):  # the first one on this device
                dimensions = self._transform["dimensions"]
                part = signal[(slice(1), slice(None), *[slice(SELF_TEST_SAMPLES[dimensions])] * dimensions)]
                what = "the GPU's encoder"
                if not passes_self_test(
                    lambda: encoder.encode(part), lambda: plain(part), what=what, device=weight.device
                ):
                    self._failed.add(weight.device)
                    return None
            self._encoder = encoder
            # References, so that their memory is not reused for other tensors, which would have the same address.
            self._weights = (weight, bias) if versions else (weight.clone(), bias.clone())
            self._last_versions = versions
        return self._encoder


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.device == right.device and torch.equal(left, right)


def _versions(*tensors: Tensor) -> tuple[int, ...] | None:
    """Return addresses and version counters of tensors; None for inference tensors, which have no counter."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(number for tensor in tensors for number in (tensor.data_ptr(), tensor._version))
