"""Stored codes to the input of a model by table lookup, including the selection of samples: one pass on a GPU.

The plain path, `index_select` of the samples followed by `gather` in the table, is the reference.
"""

from __future__ import annotations

import importlib
import math
from functools import lru_cache

import torch
from torch import Tensor

from walloc_cdl.kernels.gpu.encode import Launch, runs_kernels
from walloc_cdl.kernels.gpu.self_test import passes_self_test

BLOCK_VALUES = 4096
"""Maximum number of values that one program of the kernel looks up: 16 codes per thread, read as one word."""


def lookup_codes(
    codes: Tensor, table: Tensor, *, rows: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Return the values (B, K, …) of codes uint8 (N, K, …), of all samples or of `rows` int64 (B,).

    `table` is (K, 256), or (256,) for all channels. `dtype` defaults to the type of the table. Rows must be in
    0 … N - 1, which the kernel does not check. On devices that run the kernels this is one pass over the memory, in
    which selection and conversion are free. The plain path is used elsewhere, for tables that require a gradient, and
    under `torch.compile`, which fuses operations itself.
    """
    dtype = dtype or table.dtype
    if (
        not torch.compiler.is_compiling()
        and not table.requires_grad
        and runs_kernels(codes.device)
        and _passes_self_test(codes.device)
    ):
        return lookup(codes, table, rows, dtype)
    return plain_lookup(codes, table, rows, dtype)


@lru_cache(maxsize=64)
def _passes_self_test(device: torch.device) -> bool:
    """Return whether the kernel equals the plain path on this device."""
    codes = torch.arange(256, dtype=torch.uint8, device=device).repeat(3, 2, 1)
    table = torch.linspace(-2, 2, 512, device=device).view(2, 256)
    rows = torch.tensor([2, 0], device=device)

    def passes(dtype: torch.dtype) -> bool:
        def kernel() -> Tensor:
            return lookup(codes, table, rows, dtype)

        what = f"the GPU's lookup of {dtype}"
        return passes_self_test(kernel, lambda: plain_lookup(codes, table, rows, dtype), what=what, device=device)

    return all(passes(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16))


def plain_lookup(codes: Tensor, table: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Compute `lookup_codes` with torch."""
    selected = codes if rows is None else codes.index_select(0, rows)
    # `gather` was the fastest way on CPUs to look up values in a separate table for each channel.
    tables = table.to(dtype).expand(selected.shape[0], selected.shape[1], 256)
    return tables.gather(2, selected.flatten(2).long()).view(selected.shape)


def lookup_launch(codes: Tensor, rows: Tensor | None, table: Tensor, values: Tensor) -> Launch:
    """Return the launch of `triton_lookup.lookup` for `values` of the table's type; all tensors are contiguous."""
    channels, plane = codes.shape[1], math.prod(codes.shape[2:])
    blocks = -(-plane // BLOCK_VALUES)
    block = min(BLOCK_VALUES, 1 << max(plane - 1, 1).bit_length())
    return Launch(
        grid=(len(values) * channels * blocks, 1),
        arguments={
            **{"codes": codes, "rows": codes if rows is None else rows.contiguous(), "table": table, "values": values},
            **{"channels": channels, "plane": plane, "blocks": blocks, "table_pitch": 0 if table.ndim == 1 else 256},
            **{"HAS_ROWS": rows is not None, "BLOCK": block},
        },
        options={"num_warps": max(1, block // (32 * 16))},
    )


@torch.library.custom_op("walloc_cdl::lookup", mutates_args=())
def lookup(codes: Tensor, table: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Compute `lookup_codes` with the kernel."""
    num_rows = len(codes) if rows is None else len(rows)
    values = torch.empty((num_rows, *codes.shape[1:]), dtype=dtype, device=codes.device)
    if not values.numel():
        return values
    kernels = importlib.import_module("walloc_cdl.kernels.gpu.triton_lookup")
    launch = lookup_launch(codes.contiguous(), rows, table.to(dtype).contiguous(), values)
    launch.run(kernels.lookup, codes.device)
    return values


@lookup.register_fake
def _(codes: Tensor, table: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    num_rows = codes.shape[0] if rows is None else rows.shape[0]
    return torch.empty((num_rows, *codes.shape[1:]), dtype=dtype, device=codes.device)
