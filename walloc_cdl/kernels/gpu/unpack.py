"""Rows of bit planes to codes, and straight to the input of a model, on any device."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from walloc_cdl.kernels.gpu.lookup import plain_lookup
from walloc_cdl.planes.rows import plane_bytes, plane_shifts
from walloc_cdl.spec import count_planes


def pack_rows_tensor(codes: Tensor, planes: tuple[int, ...]) -> Tensor:
    """Return the rows, uint8 (N, R), of codes uint8 (N, K, …) of 0 to 2^b - 1, on the same device."""
    if codes.device.type == "cpu":
        kernels = importlib.import_module("walloc_cdl.kernels.cpu.planes")  # imports numba, which takes half a second
        return torch.from_numpy(kernels.pack(codes.numpy(), planes))
    return plain_pack(codes, planes)


def plain_pack(codes: Tensor, planes: tuple[int, ...]) -> Tensor:
    """Compute `pack_rows_tensor` with torch."""
    flat, size = codes.flatten(2), plane_bytes(codes.shape[2:])
    shifts = torch.from_numpy(plane_shifts(planes)).to(codes.device, torch.uint8)
    bits = torch.zeros((len(codes), len(planes), 8 * size), dtype=torch.uint8, device=codes.device)
    bits[:, :, : flat.shape[2]] = flat[:, list(planes)] >> shifts[:, None] & 1
    places = torch.arange(8, dtype=torch.uint8, device=codes.device)
    return (bits.unflatten(2, (size, 8)) << places).sum(3, dtype=torch.uint8).flatten(1)


def unpack_rows_tensor(rows: Tensor, planes: tuple[int, ...], grid: Sequence[int]) -> Tensor:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R)."""
    size, positions = plane_bytes(grid), math.prod(grid)
    own = rows[:, : len(planes) * size].reshape(len(rows), len(planes), size, 1)
    bits = (own >> torch.arange(8, dtype=torch.uint8, device=rows.device) & 1).flatten(2)[:, :, :positions]
    codes = torch.zeros((len(rows), count_planes(planes)[0], positions), dtype=torch.uint8, device=rows.device)
    for number, (channel, shift) in enumerate(zip(planes, plane_shifts(planes).tolist(), strict=True)):
        codes[:, channel] |= bits[:, number] << shift
    return codes.reshape(*codes.shape[:2], *grid)


def lookup_rows(
    rows: Tensor, table: Tensor, planes: tuple[int, ...], grid: Sequence[int], dtype: torch.dtype | None = None
) -> Tensor:
    """Return the values (N, K, *grid) of rows uint8 (N, at least R); `table` is (K, 256).

    `dtype` defaults to the type of the table.
    """
    return plain_lookup(unpack_rows_tensor(rows, planes, grid), table, None, dtype or table.dtype)
