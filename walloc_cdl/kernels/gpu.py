"""The fast path of `encode` on a GPU: operators on the device, and the kernels as operators of torch.

`torch.compile` takes `walloc_cdl::encode_image` and `walloc_cdl::encode_sequence` as they are, knows the shapes
that they give, and does not look inside.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.kernels.gpu_operators import (
    FLOAT_LIMIT,
    FLOAT_SCALE,
    TILE_SAMPLES,
    GpuOperators,
    folded_bytes,
    image_operators,
    pitch,
    sequence_operators,
    window_blocks,
)

MAX_TAPS_BYTES = 64 * 2**20
"""Of audio's folded filters; larger ones leave the second-level cache, and staged products are quicker."""

KINDS = {
    torch.uint8: "bytes",
    torch.int16: "int16",
    torch.float32: "float",
    torch.float16: "float",
    torch.bfloat16: "float",
}
"""What the kernels read as it is, and under which name the operators have its scale."""

SCALE_AND_LIMIT = {"bytes": (1.0, 1.0), "int16": (1.0, 65504.0), "float": (FLOAT_SCALE, FLOAT_LIMIT)}


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether triton is there; asked only where it could be used, for the answer imports it."""
    try:
        importlib.import_module("triton")
    except ImportError:
        return False
    return True


def runs_kernels(device: torch.device) -> bool:
    """Whether tensors on this device can be given to the kernels: CUDA devices from compute capability 8.0 on.

    With `TRITON_INTERPRET=1` in the environment, for tests, the CPU as well.
    """
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0) and has_triton()
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1" and has_triton()


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """The context in which a kernel must be launched on this tensor: its device is the current one."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()


class GpuEncoder:
    """The encoding side of a codec with a linear encoder on a device: pixels or samples to stored codes.

    `weight` (K, C · bands) over bands in the published order and `bias` (K,) are those of the linear layer on
    signals in ±0.5; `dimensions` is 2 for images and 1 for audio.
    """

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray,
        *,
        levels: int,
        dimensions: int,
        bits: int,
        device: torch.device,
    ) -> None:
        make = image_operators if dimensions == 2 else sequence_operators
        self._operators: GpuOperators = make(weight, bias, levels=levels, bits=bits)
        on_device = {name: torch.from_numpy(array).to(device) for name, array in self._operators.matrices.items()}
        self._matrices = [on_device[name] for name in (("axis", "mix") if dimensions == 2 else ("taps",))]
        self._companding = {
            kind: (torch.from_numpy(scale).to(device), torch.from_numpy(self._operators.shift[kind]).to(device))
            for kind, scale in self._operators.scale.items()
        }

    @staticmethod
    def fits(weight_shape: tuple[int, ...], *, levels: int, dimensions: int) -> bool:
        """Whether the operators of such a layer (K, C · bands) are small enough for the kernels to be worth it."""
        latents, bands = weight_shape[:2]
        return dimensions == 2 or folded_bytes(latents, bands // 2**levels, levels) <= MAX_TAPS_BYTES

    def encode(self, signal: Tensor) -> Tensor:
        """Stored codes uint8 (B, K, h, w) of images (B, C, H, W), or (B, K, t) of audio (B, C, T).

        Images are uint8, audio is int16, both may be float in ±0.5; sides are multiples of 2^levels.
        """
        kind = KINDS.get(signal.dtype)
        if kind not in self._companding:
            signal, kind = signal.float(), "float"
        operators = self._operators
        encode = encode_image if operators.dimensions == 2 else encode_sequence
        return encode(
            signal.contiguous(),
            *self._matrices,
            *self._companding[kind],
            operators.latents,
            operators.levels,
            operators.bits,
        )


def _limits(bits: int) -> tuple[float, float]:
    lowest = 2 ** (bits - 1)
    return lowest - 1 + 0.499, float(lowest)


def _turns(length: int, least: int) -> int:
    """A multiple of `length` that is at least `least`."""
    return -(-least // length) * length


@torch.library.custom_op("walloc_cdl::encode_image", mutates_args=())
def encode_image(
    pixels: Tensor, axis: Tensor, mix: Tensor, scale: Tensor, shift: Tensor, latents: int, levels: int, bits: int
) -> Tensor:
    """Codes uint8 (B, K, h, w) of pixels (B, C, H, W), with the matrices of `GpuOperators`."""
    batch, channels, height, width = pixels.shape
    codes = pixels.new_empty((batch, latents, height >> levels, width >> levels), dtype=torch.uint8)
    if not codes.numel():
        return codes
    kernels = importlib.import_module("walloc_cdl.kernels.triton_encode")
    tiles_y, tiles_x = -(-height // TILE_SAMPLES), -(-width // TILE_SAMPLES)
    window = window_blocks(levels)
    reach = (window - 1) * TILE_SAMPLES // 2
    at_once = min(pitch(latents), 16 if levels in (1, 5) else 64)  # what registers and shared memory hold
    scale_of_samples, limit_of_samples = SCALE_AND_LIMIT[KINDS[pixels.dtype]]
    limit, lowest = _limits(bits)
    grid = (batch * tiles_y * tiles_x, -(-latents // at_once))
    with on_device(pixels):
        kernels.encode_image[grid](
            pixels,
            codes,
            axis,
            mix,
            scale,
            shift,
            channels,
            height,
            width,
            latents,
            tiles_y,
            tiles_x,
            _turns(height, reach),
            _turns(width, reach),
            limit,
            lowest,
            LEVELS=levels,
            WINDOW=window,
            BANDS=mix.shape[2],
            LATENTS=at_once,
            MIX_PITCH=mix.shape[3],
            ALIGN=math.gcd(width, 16),
            SCALE=scale_of_samples,
            LIMIT=limit_of_samples,
            num_warps=8 if levels == 1 else 4,
            # Two programs must fit a multiprocessor's shared memory, that one computes while the other loads.
            num_stages=1,
        )
    return codes


@encode_image.register_fake
def _(
    pixels: Tensor, axis: Tensor, mix: Tensor, scale: Tensor, shift: Tensor, latents: int, levels: int, bits: int
) -> Tensor:
    batch, _, height, width = pixels.shape
    return pixels.new_empty((batch, latents, height >> levels, width >> levels), dtype=torch.uint8)


@torch.library.custom_op("walloc_cdl::encode_sequence", mutates_args=())
def encode_sequence(
    samples: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, latents: int, levels: int, bits: int
) -> Tensor:
    """Codes uint8 (B, K, t) of samples (B, C, T), with the matrices of `GpuOperators`."""
    batch, channels, length = samples.shape
    frames, frame = length >> levels, 2**levels
    codes = samples.new_empty((batch, latents, frames), dtype=torch.uint8)
    if not codes.numel():
        return codes
    kernels = importlib.import_module("walloc_cdl.kernels.triton_encode")
    positions = 64
    tiles = -(-frames // positions)
    at_once = min(taps.shape[3], 64)
    scale_of_samples, limit_of_samples = SCALE_AND_LIMIT[KINDS[samples.dtype]]
    limit, lowest = _limits(bits)
    with on_device(samples):
        kernels.encode_sequence[(batch * tiles, -(-latents // at_once))](
            samples,
            codes,
            taps,
            scale,
            shift,
            channels,
            frames,
            latents,
            tiles,
            _turns(frames, 4),
            limit,
            lowest,
            FRAME=frame,
            POSITIONS=positions,
            LATENTS=at_once,
            PITCH=taps.shape[3],
            CHUNK=min(8 * frame, 64),
            SCALE=scale_of_samples,
            LIMIT=limit_of_samples,
            num_warps=4,
            num_stages=2,
        )
    return codes


@encode_sequence.register_fake
def _(samples: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, latents: int, levels: int, bits: int) -> Tensor:
    return samples.new_empty((samples.shape[0], latents, samples.shape[2] >> levels), dtype=torch.uint8)
