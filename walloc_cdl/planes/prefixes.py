"""Values of codes of every number of bits, in one array, and where those of a prefix of the bit planes stand in it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

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
def prefix_index(planes: tuple[int, ...], num_planes: int) -> np.ndarray:
    """Return where the value of each byte, as a code of the first planes, stands in all values, int64 (K', 256)."""
    bits = np.array(count_planes(planes[:num_planes])[1])[:, None]
    starts = mean_index(planes)[: len(bits), None]
    return starts + 2**bits - 1 + np.minimum(np.arange(256), 2**bits - 1)


@lru_cache(maxsize=16)
def mean_index(planes: tuple[int, ...]) -> np.ndarray:
    """Return where the value of no bits stands for each channel, int64 (K,)."""
    sizes = [2 ** (bits + 1) - 1 for bits in count_planes(planes)[1]]
    return np.cumsum([0, *sizes[:-1]])
