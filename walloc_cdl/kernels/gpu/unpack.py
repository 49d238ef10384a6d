"""Rows of bit planes to codes, or straight to the input of a model, and back, on any device.

Rows are unpacked and their values looked up in one pass over the memory: by numba on a CPU, by Triton on a GPU. Both
are custom operators of torch, opaque to `torch.compile`, which infers the shapes of their results. The plain path, in
torch, is the reference; it is used on other devices, on GPUs that fail a self-test, and for tables that require a
gradient.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.encode import Launch, runs_kernels
from walloc_cdl.kernels.gpu.lookup import plain_lookup
from walloc_cdl.kernels.gpu.self_test import passes_self_test
from walloc_cdl.planes.rows import plane_bytes, plane_shifts
from walloc_cdl.spec import count_planes

BLOCK_POSITIONS = 1024
"""Maximum number of positions that one program of the kernel unpacks, eight for each thread."""


def pack_rows_tensor(codes: Tensor, planes: tuple[int, ...]) -> Tensor:
    """Return the rows, uint8 (N, R), of codes uint8 (N, K, …) of 0 to 2^b - 1, on their device.

    On a CPU they are packed by numba, elsewhere by operations of torch.
    """
    return pack(codes, list(planes))


def unpack_rows_tensor(rows: Tensor, planes: tuple[int, ...], grid: Sequence[int]) -> Tensor:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R).

    Raises `CallError` for rows of another type, and for shorter ones.
    """
    _check(rows, planes, grid)
    if _needs_no_operator(rows):
        return _unpack_on_cpu(rows, planes, grid)
    return unpack(rows, list(planes), list(grid))


def lookup_rows(
    rows: Tensor, table: Tensor, planes: tuple[int, ...], grid: Sequence[int], dtype: torch.dtype | None = None
) -> Tensor:
    """Return the values (N, K, *grid) of the first bytes of rows, uint8 (N, at least R).

    `table` has the value of each byte as a code of each channel, (K, 256), on the device of the rows. `dtype` defaults
    to the type of the table. Raises `CallError` as `unpack_rows_tensor` does, and for a table of another shape.
    """
    _check(rows, planes, grid)
    channels, dtype = _count_channels(planes), dtype or table.dtype
    if table.shape != (channels, 256):
        raise CallError(f"a table of shape {list(table.shape)}; expected [{channels}, 256], a value for each byte")
    if table.requires_grad or dtype == torch.float64:
        return plain_lookup(unpack_rows_tensor(rows, planes, grid), table, None, dtype)
    if _needs_no_operator(rows):
        return _look_up_on_cpu(rows, table, planes, grid, dtype)
    return lookup(rows, table, list(planes), list(grid), dtype)


def _needs_no_operator(rows: Tensor) -> bool:
    """Return whether the compiled functions can be called without a custom operator, which takes 0.1 ms a call."""
    return rows.device.type == "cpu" and type(rows) is Tensor and not torch.compiler.is_compiling()


@lru_cache(maxsize=64)
def _count_channels(planes: tuple[int, ...]) -> int:
    return count_planes(planes)[0]


def _unpack_on_cpu(rows: Tensor, planes: tuple[int, ...], grid: Sequence[int]) -> Tensor:
    return torch.from_numpy(_on_cpu().unpack(rows.numpy(), planes, grid))


def _look_up_on_cpu(
    rows: Tensor, table: Tensor, planes: tuple[int, ...], grid: Sequence[int], dtype: torch.dtype
) -> Tensor:
    return torch.from_numpy(_on_cpu().unpack_values(rows.numpy(), table.float().numpy(), planes, grid)).to(dtype)


def _check(rows: Tensor, planes: tuple[int, ...], grid: Sequence[int]) -> None:
    num_bytes = len(planes) * plane_bytes(grid)
    if rows.dtype != torch.uint8 or rows.ndim != 2 or rows.shape[1] < num_bytes:
        raise CallError(f"rows {rows.dtype} {list(rows.shape)}; expected uint8 [N, {num_bytes} or more]")


def plain_pack(codes: Tensor, planes: tuple[int, ...]) -> Tensor:
    """Compute `pack_rows_tensor` with torch."""
    flat, size = codes.flatten(2), plane_bytes(codes.shape[2:])
    shifts = torch.from_numpy(plane_shifts(planes)).to(codes.device, torch.uint8)
    bits = torch.zeros((len(codes), len(planes), 8 * size), dtype=torch.uint8, device=codes.device)
    bits[:, :, : flat.shape[2]] = flat[:, list(planes)] >> shifts[:, None] & 1
    places = torch.arange(8, dtype=torch.uint8, device=codes.device)
    return (bits.unflatten(2, (size, 8)) << places).sum(3, dtype=torch.uint8).flatten(1)


def plain_unpack(rows: Tensor, planes: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Compute `unpack_rows_tensor` with torch."""
    size, positions, channels = plane_bytes(grid), math.prod(grid), count_planes(tuple(planes))[0]
    places = torch.arange(8, dtype=torch.uint8, device=rows.device)
    stored = rows[:, : len(planes) * size].unflatten(1, (len(planes), size, 1))
    bits = (stored >> places & 1).flatten(2)[:, :, :positions]
    codes = torch.zeros((len(rows), channels, positions), dtype=torch.uint8, device=rows.device)
    for number, (channel, shift) in enumerate(zip(planes, plane_shifts(tuple(planes)).tolist(), strict=True)):
        codes[:, channel] |= bits[:, number] << shift
    return codes.unflatten(2, tuple(grid))


@lru_cache(maxsize=64)
def _channels(planes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the bits of each channel, int32 (K,), and the numbers of its planes, int32 (K, 8), the highest first."""
    bits = count_planes(planes)[1]
    numbers = torch.zeros((len(bits), 8), dtype=torch.int32)
    for channel, count in enumerate(bits):
        numbers[channel, :count] = torch.tensor([number for number, each in enumerate(planes) if each == channel])
    return torch.tensor(bits, dtype=torch.int32, device=device), numbers.to(device)


def unpack_launch(rows: Tensor, planes: tuple[int, ...], table: Tensor | None, out: Tensor) -> Launch:
    """Return the launch of `triton_planes.unpack` for `out` (N, K, …), codes, or values of the table's type.

    Neighboring bytes of a row are neighbors in memory; table and `out` are contiguous.
    """
    channels, positions = out.shape[1], math.prod(out.shape[2:])
    block = min(BLOCK_POSITIONS, 1 << max(positions - 1, 1).bit_length())
    blocks = -(-positions // block)
    bits, numbers = _channels(planes, rows.device)
    return Launch(
        grid=(len(out) * channels * blocks, 1),
        arguments={
            **{"rows": rows, "bits": bits, "numbers": numbers, "table": rows if table is None else table, "out": out},
            **{"pitch": rows.stride(0), "size": plane_bytes(out.shape[2:]), "channels": channels},
            **{"positions": positions, "blocks": blocks, "HAS_TABLE": table is not None, "BLOCK": block},
        },
        options={"num_warps": max(1, block // (32 * 8))},
    )


@torch.library.custom_op("walloc_cdl::pack_rows", mutates_args=())
def pack(codes: Tensor, planes: list[int]) -> Tensor:
    """Compute `pack_rows_tensor` by the fastest path of the device."""
    if codes.device.type == "cpu":
        return torch.from_numpy(_on_cpu().pack(codes.numpy(), tuple(planes)))
    return plain_pack(codes, tuple(planes))


@torch.library.custom_op("walloc_cdl::unpack_rows", mutates_args=())
def unpack(rows: Tensor, planes: list[int], grid: list[int]) -> Tensor:
    """Compute `unpack_rows_tensor` by the fastest path of the device."""
    if _uses_triton(rows.device):
        return unpack_by_triton(rows, planes, grid)
    if rows.device.type == "cpu":
        return _unpack_on_cpu(rows, tuple(planes), grid)
    return plain_unpack(rows, planes, grid)


@torch.library.custom_op("walloc_cdl::lookup_rows", mutates_args=())
def lookup(rows: Tensor, table: Tensor, planes: list[int], grid: list[int], dtype: torch.dtype) -> Tensor:
    """Compute `lookup_rows` by the fastest path of the device."""
    if _uses_triton(rows.device):
        return unpack_by_triton(rows, planes, grid, table.to(dtype))
    if rows.device.type == "cpu":
        return _look_up_on_cpu(rows, table, tuple(planes), grid, dtype)
    return plain_lookup(plain_unpack(rows, planes, grid), table, None, dtype)


@pack.register_fake
def _(codes: Tensor, planes: list[int]) -> Tensor:
    return codes.new_empty((codes.shape[0], len(planes) * plane_bytes(codes.shape[2:])))


@unpack.register_fake
def _(rows: Tensor, planes: list[int], grid: list[int]) -> Tensor:
    return rows.new_empty((rows.shape[0], count_planes(tuple(planes))[0], *grid))


@lookup.register_fake
def _(rows: Tensor, table: Tensor, planes: list[int], grid: list[int], dtype: torch.dtype) -> Tensor:
    return rows.new_empty((rows.shape[0], count_planes(tuple(planes))[0], *grid), dtype=dtype)


def unpack_by_triton(rows: Tensor, planes: Sequence[int], grid: Sequence[int], table: Tensor | None = None) -> Tensor:
    """Return codes, or values of the table's type if there is a table, computed by the kernel."""
    shape = (len(rows), count_planes(tuple(planes))[0], *grid)
    out = torch.empty(shape, dtype=torch.uint8 if table is None else table.dtype, device=rows.device)
    if out.numel():
        kernels = importlib.import_module("walloc_cdl.kernels.gpu.triton_planes")
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        launch = unpack_launch(rows, tuple(planes), None if table is None else table.contiguous(), out)
        launch.run(kernels.unpack, rows.device)
    return out


def _uses_triton(device: torch.device) -> bool:
    return runs_kernels(device) and _passes_self_test(device)


@lru_cache(maxsize=64)
def _passes_self_test(device: torch.device) -> bool:
    """Return whether the kernel equals the plain path on this device."""
    planes, grid = (0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 2), (5, 7)
    rows = (torch.arange(3 * 60, device=device) * 37 % 256).to(torch.uint8).view(3, 60)[:, :55]
    table = torch.linspace(-2, 2, 768, device=device).view(3, 256)
    codes = plain_unpack(rows, planes, grid)

    def passes(dtype: torch.dtype | None) -> bool:
        values = None if dtype is None else table.to(dtype)
        return passes_self_test(
            lambda: unpack_by_triton(rows, planes, grid, values),
            lambda: codes if values is None else plain_lookup(codes, values, None, values.dtype),
            what=f"the GPU's unpacking to {dtype or 'codes'}",
            device=device,
        )

    return all(passes(dtype) for dtype in (None, torch.float32, torch.float16, torch.bfloat16))


def _on_cpu() -> ModuleType:
    return importlib.import_module("walloc_cdl.kernels.cpu.planes")  # imports numba, which takes half a second
