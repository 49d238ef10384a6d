"""Values of codes of every number of bits, from which `ModelInput` makes the table of any prefix of the bit planes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.planes.levels import LevelTables
from walloc_cdl.spec import LatentSpec, count_planes


def values_of_all_bits(spec: LatentSpec, levels: LevelTables) -> tuple[np.ndarray, np.ndarray]:
    """Return the values, float64 (n,), of no bits, 1 bit, … all bits of each channel, and their channels (n,)."""
    parts = [
        levels.channel_values(channel, bits)
        for channel, stored in enumerate(spec.channel_bits)
        for bits in range(stored + 1)
    ]
    sizes = [2 ** (stored + 1) - 1 for stored in spec.channel_bits]
    return np.concatenate(parts).astype(np.float64), np.repeat(np.arange(len(sizes)), sizes)


@lru_cache(maxsize=512)
def prefix_index(planes: tuple[int, ...], num_planes: int, device: torch.device) -> Tensor:
    """Return where the value of each byte, as a code of the first planes, stands in all values, int64 (K', 256)."""
    starts = _starts(planes)
    bits = count_planes(planes[:num_planes])[1]
    codes = np.arange(256)
    index = [start + 2**count - 1 + np.minimum(codes, 2**count - 1) for start, count in zip(starts, bits, strict=False)]
    return torch.from_numpy(np.stack(index)).to(device)


@lru_cache(maxsize=16)
def mean_index(planes: tuple[int, ...], device: torch.device) -> Tensor:
    """Return where the value of no bits stands for each channel, int64 (K,)."""
    return torch.tensor(_starts(planes), device=device)


def _starts(planes: tuple[int, ...]) -> list[int]:
    sizes = [2 ** (bits + 1) - 1 for bits in count_planes(planes)[1]]
    return np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64).tolist()
