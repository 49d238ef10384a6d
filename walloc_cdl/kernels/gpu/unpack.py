"""Rows of bit planes to codes, and straight to the input of a model, on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from walloc_cdl.kernels.gpu.lookup import plain_lookup
from walloc_cdl.planes.rows import plane_bytes, plane_shifts
from walloc_cdl.spec import count_planes


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
