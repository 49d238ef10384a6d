"""The CRC32C of each sample, which finds the damaged ones inside a damaged shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from crc32c import crc32c


def sample_checksums(codes: np.ndarray, labels: np.ndarray | None, keys: Sequence[bytes]) -> np.ndarray:
    """CRC32C (Castagnoli), uint32 (N,), of each sample's codes, then its label, then its key.

    `codes` is uint8 (N, …), C-contiguous; a label counts as 8 bytes, little-endian, and as nothing
    where there are no labels; `keys` are UTF-8.
    """
    rows = codes.reshape(len(codes), -1) if len(codes) else codes
    endings: Sequence[bytes] = keys
    if labels is not None:
        packed = np.ascontiguousarray(labels, dtype="<i8").tobytes()
        endings = [packed[8 * row : 8 * row + 8] + key for row, key in enumerate(keys)]
    sums = [crc32c(ending, crc32c(row)) for row, ending in zip(rows, endings, strict=True)]
    return np.array(sums, np.uint32)
