"""Selects the compiled path of `encode`, and keeps the compiled encoder of a codec's current weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.codec.level_quantizer import LevelQuantizer
from walloc_cdl.kernels.cpu.detached import DetachedEncoder
from walloc_cdl.kernels.gpu.encode import GpuEncoder, runs_kernels
from walloc_cdl.kernels.gpu.self_test import passes_self_test
from walloc_cdl.planes.levels import LevelTables
from walloc_cdl.spec import count_planes

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder


SELF_TEST_SAMPLES = {1: 2**15, 2: 2**9}
"""Side length of the part of the signal that a self-test encodes, by dimensions; a multiple of every stride."""


@dataclass(frozen=True)
class EncoderWeights:
    """What decides the codes of a light encoder."""

    weight: Tensor
    """(K, C · bands, 1, …), of the linear layer."""
    bias: Tensor
    """(K,)."""
    quantizer: LevelQuantizer | None = None
    """None for companded codes."""
    planes: tuple[int, ...] = ()
    """The bit planes that are encoded, if there is a quantizer."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors of which a compiled encoder is built."""
        tensors = [self.weight, self.bias] + ([] if self.quantizer is None else [self.quantizer.thresholds])
        return tuple(tensor.detach() for tensor in tensors)


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

    def encode(self, weights: EncoderWeights, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Return the stored codes of the signal's own positions, or None if the plain path is required.

        The plain path is required if weights and signal are on different devices or on a device without a compiled
        path, if the weights are not float32, if the codec is too large for the GPU kernels, and on a GPU where the
        kernels fail a self-test, which encodes a part of the first signal and compares it with `plain`. `torch.compile`
        breaks its graph here.
        """
        if torch.compiler.is_compiling():
            # Disabled by a call rather than a decorator, since importing torch's compiler takes seconds.
            return torch.compiler.disable(self._encode)(weights, signal, plain)
        return self._encode(weights, signal, plain)

    def detached(self, weights: EncoderWeights) -> DetachedEncoder | None:
        """Return the CPU encoder of the current weights, on whichever device they are; None unless they are float32."""
        if weights.weight.dtype != torch.float32:
            return None
        weight, bias, *thresholds = (tensor.cpu() for tensor in weights.tensors())
        arrays = weight.flatten(1).numpy(), bias.numpy()
        if weights.quantizer is None:
            return DetachedEncoder(*arrays, **self._transform, bits=self._bits)
        count = count_planes(weights.planes)[0]
        levels = {"thresholds": _thresholds_table(weights, thresholds[0]), "planes": weights.planes}
        return DetachedEncoder(*(array[:count] for array in arrays), **self._transform, bits=self._bits, **levels)

    def _encode(self, weights: EncoderWeights, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> Tensor | None:
        weight = weights.tensors()[0]
        if signal.device != weight.device or weight.dtype != torch.float32:
            return None
        if not runs_kernels(weight.device):  # Triton's interpreter also runs them on the CPU
            if weight.device.type != "cpu":
                return None
            x = to_unit_range(signal) if signal.is_floating_point() else signal
            return torch.from_numpy(self._on_cpu(weights).encode(x.detach().numpy(), torch.get_num_threads()))
        if weight.device in self._failed:
            return None
        if not GpuEncoder.fits(weight.shape, **self._transform, device=weight.device):
            return None
        encoder = self._on_gpu(weights, signal.detach(), plain)
        return None if encoder is None else encoder.encode(signal.detach())

    def _on_cpu(self, weights: EncoderWeights) -> FusedEncoder:
        fused = importlib.import_module("walloc_cdl.kernels.cpu.fused")  # imports numba, which takes half a second
        tensors = weights.tensors()
        if not isinstance(self._encoder, fused.FusedEncoder) or not all(map(_equal, self._weights, tensors)):
            # The encoder is built from the copies that later weights are compared with, since another thread or process
            # may be training the weights meanwhile.
            copies = tuple(tensor.clone() for tensor in tensors)
            self._encoder = self._fused(weights, *copies)
            self._weights = copies
        return self._encoder

    def _fused(self, weights: EncoderWeights, weight: Tensor, bias: Tensor, *thresholds: Tensor) -> FusedEncoder:
        fused = importlib.import_module("walloc_cdl.kernels.cpu.fused")
        arrays = weight.flatten(1).numpy(), bias.numpy()
        if weights.quantizer is None:
            return fused.FusedEncoder(*arrays, **self._transform, codes=fused.CompandedCodes(self._bits))
        count = count_planes(weights.planes)[0]
        codes = fused.LevelCodes(_thresholds_table(weights, thresholds[0]), weights.planes)
        return fused.FusedEncoder(*(array[:count] for array in arrays), **self._transform, codes=codes)

    def _on_gpu(self, weights: EncoderWeights, signal: Tensor, plain: Callable[[Tensor], Tensor]) -> GpuEncoder | None:
        tensors = weights.tensors()
        versions = _versions(*tensors)
        is_current = isinstance(self._encoder, GpuEncoder) and (
            versions == self._last_versions if versions else all(map(_equal, self._weights, tensors))
        )
        if not is_current:
            encoder = self._for_gpu(weights, *(tensor.cpu() for tensor in tensors), device=signal.device)
            if not isinstance(self._encoder, GpuEncoder):  # the first one on this device
                dimensions = self._transform["dimensions"]
                part = signal[(slice(1), slice(None), *[slice(SELF_TEST_SAMPLES[dimensions])] * dimensions)]
                what = "the GPU's encoder"
                if not passes_self_test(
                    lambda: encoder.encode(part), lambda: plain(part), what=what, device=signal.device
                ):
                    self._failed.add(signal.device)
                    return None
            self._encoder = encoder
            # References, so that their memory is not reused for other tensors, which would have the same address.
            self._weights = tensors if versions else tuple(tensor.clone() for tensor in tensors)
            self._last_versions = versions
        return self._encoder

    def _for_gpu(
        self, weights: EncoderWeights, weight: Tensor, bias: Tensor, *thresholds: Tensor, device: torch.device
    ) -> GpuEncoder:
        arrays = weight.flatten(1).numpy(), bias.numpy()
        if weights.quantizer is None:
            return GpuEncoder(*arrays, **self._transform, bits=self._bits, device=device)
        count, channel_bits = count_planes(weights.planes)
        return GpuEncoder(
            *(array[:count] for array in arrays),
            **self._transform,
            bits=max(channel_bits),
            device=device,
            thresholds=_thresholds_table(weights, thresholds[0]),
        )


def _thresholds_table(weights: EncoderWeights, thresholds: Tensor) -> np.ndarray:
    """Return the thresholds of the encoded channels, float32 (K, 2^max - 1), see `LevelTables.thresholds_table`."""
    levels = LevelTables(weights.quantizer.bits, thresholds.numpy(), np.empty(0, np.float32))
    return levels.thresholds_table(count_planes(weights.planes)[1])


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.device == right.device and torch.equal(left, right)


def _versions(*tensors: Tensor) -> tuple[int, ...] | None:
    """Return addresses and version counters of tensors; None for inference tensors, which have no counter."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(number for tensor in tensors for number in (tensor.data_ptr(), tensor._version))
