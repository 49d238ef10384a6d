"""Parts of the packet transforms of images and of sequences: the dense block operator and periodic extension."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from walloc_cdl.kernels.filters import block_operator

TILE_SAMPLES = 64
"""Side of a tile in coefficients: small enough for the cache, large enough for an efficient matrix product."""
CHUNK_VALUES = 400_000
"""Input values that are processed at a time; the intermediate results fit in a few MB of cache."""


def tile_operator(levels: int, inverse: bool, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, int]:
    """Return `block_operator` for tiles of `TILE_SAMPLES` as a tensor, and its reach in samples."""
    return _tile_operator(levels, inverse, dtype, device, torch.is_inference_mode_enabled())


@lru_cache(maxsize=32)
def _tile_operator(
    levels: int, inverse: bool, dtype: torch.dtype, device: torch.device, is_inference: bool
) -> tuple[Tensor, int]:
    # Tensors made in inference mode are cached separately, since gradients cannot be computed with them.
    positions = max(1, TILE_SAMPLES // 2**levels)
    matrix, reach = block_operator(levels, positions, inverse=inverse)
    return torch.as_tensor(matrix, dtype=dtype, device=device), reach


def extend_periodically(x: Tensor, dim: int, tile: int, reach: int) -> Tensor:
    """Extend an axis periodically, by `reach` samples before it, and after it to whole tiles plus `reach`."""
    length = x.shape[dim]
    padded = -(-length // tile) * tile
    before, after = reach, padded - length + reach
    if before <= length and after <= length:
        return torch.cat([x.narrow(dim, length - before, before), x, x.narrow(dim, 0, after)], dim)
    index = torch.arange(-before, length + after, device=x.device) % length
    return x.index_select(dim, index)
