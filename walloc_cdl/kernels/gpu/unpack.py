"""Rows of bit planes to codes, or straight to the input of a model, in plain torch on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from walloc_cdl.kernels.gpu.lookup import plain_lookup
from walloc_cdl.planes.rows import plane_bytes, plane_shifts


def unpack_rows_tensor(rows: Tensor, planes: tuple[int, ...], grid: Sequence[int]) -> Tensor:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R)."""
    size, positions = plane_bytes(grid), math.prod(grid)
    bits = torch.arange(8, device=rows.device, dtype=torch.uint8)
    packed = rows[:, : len(planes) * size].reshape(len(rows), len(planes), size, 1)
    unpacked = ((packed >> bits) & 1).reshape(len(rows), len(planes), 8 * size)[:, :, :positions]
    codes = torch.zeros((len(rows), max(planes) + 1, positions), dtype=torch.uint8, device=rows.device)
    for number, (channel, shift) in enumerate(zip(planes, plane_shifts(planes).tolist(), strict=True)):
        codes[:, channel] |= unpacked[:, number] << shift
    return codes.reshape(len(rows), -1, *grid)


def lookup_rows(
    rows: Tensor,
    table: Tensor,
    planes: tuple[int, ...],
    grid: Sequence[int],
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the values (N, K, *grid) of rows, uint8 (N, at least R), by a table (K, 256)."""
    return plain_lookup(unpack_rows_tensor(rows, planes, grid), table, None, dtype or table.dtype)
