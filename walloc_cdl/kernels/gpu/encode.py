"""The fast path of `encode` on a GPU: matrices on the device, and the kernels as custom operators of torch.

`torch.compile` treats `walloc_cdl::encode_image` and `walloc_cdl::encode_sequence` as opaque operators and infers their
output shapes.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.kernels.gpu.operators import (
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
from walloc_cdl.spec import code_limit, companded_limit

MAX_TAPS_BYTES = 64 * 2**20
"""Maximum size in bytes of the folded filters of audio: larger ones do not fit the second-level cache, and the plain
path, which multiplies in stages, is faster."""

KINDS = {
    torch.uint8: "bytes",
    torch.int16: "int16",
    torch.float32: "float",
    torch.float16: "float",
    torch.bfloat16: "float",
}
"""Signal types that the kernels read without conversion, and the names of their scales in the operators."""

SEQUENCE_POSITIONS = 64
"""Audio frames that one program of the kernel encodes."""

SHARED_BYTES = {1: 132_096}
"""Shared memory of a program for images in bytes, by levels, compiled for compute capabilities 8.0 to 12.0."""
DEFAULT_SHARED_BYTES = 98_304

SCALE_AND_LIMIT = {"bytes": (1.0, 1.0), "int16": (1.0, 65504.0), "float": (FLOAT_SCALE, FLOAT_LIMIT)}


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Return whether triton can be imported; the call imports it, so it is made only where triton could be used."""
    try:
        importlib.import_module("triton")
    except ImportError:
        return False
    return True


def runs_kernels(device: torch.device) -> bool:
    """Return whether the kernels run on this device: CUDA devices from compute capability 8.0 on.

    With `TRITON_INTERPRET=1` in the environment, for tests, they also run on the CPU, and precede numba's path there.
    """
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0) and has_triton()
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1" and has_triton()


def _shared_bytes(device: torch.device) -> float:
    """Return the shared memory in bytes that one program can use; the interpreter has no limit."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


class GpuEncoder:
    """The encoding side of a codec with a linear encoder on a GPU: pixels or samples to stored codes.

    `weight` (K, C · bands), over bands in the published order, and `bias` (K,) are those of the linear layer on
    signals in ±0.5; `dimensions` is 2 for images and 1 for audio. `thresholds`, float32 (K, 2^bits - 1), quantize
    latents with levels, NaN where there are fewer; without them, latents are companded.
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
        thresholds: np.ndarray | None = None,
    ) -> None:
        make = image_operators if dimensions == 2 else sequence_operators
        self._operators: GpuOperators = make(weight, bias, levels=levels, bits=bits, thresholds=thresholds)
        on_device = {name: torch.from_numpy(array).to(device) for name, array in self._operators.matrices.items()}
        self._matrices = [on_device[name] for name in (("axis", "mix") if dimensions == 2 else ("taps",))]
        heaps = self._operators.heaps
        self._heaps = None if heaps is None else torch.from_numpy(heaps).to(device)
        self._companding = {
            kind: (torch.from_numpy(scale).to(device), torch.from_numpy(self._operators.shift[kind]).to(device))
            for kind, scale in self._operators.scale.items()
        }

    @staticmethod
    def fits(weight_shape: tuple[int, ...], *, levels: int, dimensions: int, device: torch.device) -> bool:
        """Return whether the kernels support a layer (K, C · bands) on this device and outperform the plain path."""
        latents, bands = weight_shape[:2]
        if dimensions == 1:
            return folded_bytes(latents, bands // 2**levels, levels) <= MAX_TAPS_BYTES
        return _shared_bytes(device) >= SHARED_BYTES.get(levels, DEFAULT_SHARED_BYTES)

    def encode(self, signal: Tensor) -> Tensor:
        """Return stored codes uint8, (B, K, h, w) of images (B, C, H, W), or (B, K, t) of audio (B, C, T).

        Images are uint8, audio is int16, and both may be float in ±0.5; sides are multiples of 2^levels.
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
            self._heaps,
        )


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel: the grid of programs, their arguments, and the options of Triton."""

    grid: tuple[int, int]
    arguments: dict[str, Any]
    options: dict[str, int]

    def run(self, kernel: Any, device: torch.device) -> None:
        """Launch the kernel on the device of the tensors."""
        # Triton launches kernels on the current device, whichever the tensors are on.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            kernel[self.grid](**self.arguments, **self.options)


def image_launch(
    pixels: Tensor,
    codes: Tensor,
    axis: Tensor,
    mix: Tensor,
    scale: Tensor,
    shift: Tensor,
    levels: int,
    bits: int,
    heaps: Tensor | None = None,
) -> Launch:
    """Return the launch of `triton_encode.encode_image` for these codes; see `encode_image` for the arguments."""
    batch, channels, height, width = pixels.shape
    latents, kind = codes.shape[1], KINDS[pixels.dtype]
    tiles_y, tiles_x = -(-height // TILE_SAMPLES), -(-width // TILE_SAMPLES)
    window = window_blocks(levels)
    reach = (window - 1) * TILE_SAMPLES // 2
    # Limited by registers: a tile of one level has 1024 positions, one of five levels 1024 bands.
    latents_per_program = min(pitch(latents), 16 if levels in (1, 5) else 64)
    return Launch(
        grid=(batch * tiles_y * tiles_x, -(-latents // latents_per_program)),
        arguments={
            **{"pixels": pixels, "codes": codes, "axis": axis, "mix": mix, "scale": scale, "shift": shift},
            **{"channels": channels, "height": height, "width": width, "latents": latents},
            **{"tiles_y": tiles_y, "tiles_x": tiles_x},
            **{"wrap_y": _wrap_offset(height, reach), "wrap_x": _wrap_offset(width, reach)},
            **_quantization(scale, bits, heaps),
            **{"LEVELS": levels, "WINDOW": window, "BANDS": mix.shape[2], "LATENTS": latents_per_program},
            **{"MIX_PITCH": mix.shape[3], "ALIGN": math.gcd(width, 16)},
            **dict(zip(("SCALE", "LIMIT"), SCALE_AND_LIMIT[kind], strict=True)),
        },
        # With one stage, two programs fit a multiprocessor, so that one computes while the other waits for memory.
        options={"num_warps": 8 if levels == 1 else 4, "num_stages": 1},
    )


def sequence_launch(
    samples: Tensor,
    codes: Tensor,
    taps: Tensor,
    scale: Tensor,
    shift: Tensor,
    levels: int,
    bits: int,
    heaps: Tensor | None = None,
) -> Launch:
    """Return the launch of `triton_encode.encode_sequence` for these codes; see `encode_sequence` for arguments."""
    batch, channels, _ = samples.shape
    latents, frames, frame = codes.shape[1], codes.shape[2], 2**levels
    tiles = -(-frames // SEQUENCE_POSITIONS)
    latents_per_program = min(taps.shape[3], 64)
    return Launch(
        grid=(batch * tiles, -(-latents // latents_per_program)),
        arguments={
            **{"samples": samples, "codes": codes, "taps": taps, "scale": scale, "shift": shift},
            **{"channels": channels, "frames": frames, "latents": latents, "tiles": tiles},
            "wrap": _wrap_offset(frames, 4),
            **_quantization(scale, bits, heaps),
            **{"FRAME": frame, "POSITIONS": SEQUENCE_POSITIONS, "LATENTS": latents_per_program, "PITCH": taps.shape[3]},
            "CHUNK": min(8 * frame, 64),
            **dict(zip(("SCALE", "LIMIT"), SCALE_AND_LIMIT[KINDS[samples.dtype]], strict=True)),
        },
        options={"num_warps": 4, "num_stages": 2},
    )


def _quantization(scale: Tensor, bits: int, heaps: Tensor | None) -> dict[str, Any]:
    """Return the arguments of a kernel that say how latents become codes."""
    if heaps is None:
        return {"heaps": scale, "limit": companded_limit(bits), "lowest": float(code_limit(bits) + 1), "SEARCH": 0}
    return {"heaps": heaps, "limit": 0.0, "lowest": 0.0, "SEARCH": bits}


def _wrap_offset(length: int, minimum: int) -> int:
    """Return a multiple of `length` that is at least `minimum`.

    The kernels wrap a position around the ends of the signal by (position + offset) % length, since in C the remainder
    of a negative number is negative.
    """
    return -(-minimum // length) * length


@torch.library.custom_op("walloc_cdl::encode_image", mutates_args=())
def encode_image(
    pixels: Tensor,
    axis: Tensor,
    mix: Tensor,
    scale: Tensor,
    shift: Tensor,
    latents: int,
    levels: int,
    bits: int,
    heaps: Tensor | None = None,
) -> Tensor:
    """Return codes uint8 (B, K, h, w) of contiguous pixels (B, C, H, W); the matrices are those of `GpuOperators`."""
    codes = _empty_codes(pixels, latents, levels)
    if codes.numel():
        kernels = importlib.import_module("walloc_cdl.kernels.gpu.triton_encode")
        launch = image_launch(pixels, codes, axis, mix, scale, shift, levels, bits, heaps)
        launch.run(kernels.encode_image, pixels.device)
    return codes


@torch.library.custom_op("walloc_cdl::encode_sequence", mutates_args=())
def encode_sequence(
    samples: Tensor,
    taps: Tensor,
    scale: Tensor,
    shift: Tensor,
    latents: int,
    levels: int,
    bits: int,
    heaps: Tensor | None = None,
) -> Tensor:
    """Return codes uint8 (B, K, t) of contiguous samples (B, C, T); the matrices are those of `GpuOperators`."""
    codes = _empty_codes(samples, latents, levels)
    if codes.numel():
        kernels = importlib.import_module("walloc_cdl.kernels.gpu.triton_encode")
        launch = sequence_launch(samples, codes, taps, scale, shift, levels, bits, heaps)
        launch.run(kernels.encode_sequence, samples.device)
    return codes


@encode_image.register_fake
def _(
    pixels: Tensor,
    axis: Tensor,
    mix: Tensor,
    scale: Tensor,
    shift: Tensor,
    latents: int,
    levels: int,
    bits: int,
    heaps: Tensor | None = None,
) -> Tensor:
    return _empty_codes(pixels, latents, levels)


@encode_sequence.register_fake
def _(
    samples: Tensor,
    taps: Tensor,
    scale: Tensor,
    shift: Tensor,
    latents: int,
    levels: int,
    bits: int,
    heaps: Tensor | None = None,
) -> Tensor:
    return _empty_codes(samples, latents, levels)


def _empty_codes(signal: Tensor, latents: int, levels: int) -> Tensor:
    grid = [side >> levels for side in signal.shape[2:]]
    return signal.new_empty((signal.shape[0], latents, *grid), dtype=torch.uint8)
