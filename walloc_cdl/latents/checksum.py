"""The CRC32C of each sample, which finds the damaged ones inside a damaged shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from crc32c import crc32c


def sample_checksums(
    codes: np.ndarray | Sequence[np.ndarray], fields: Sequence[np.ndarray], keys: Sequence[bytes]
) -> np.ndarray:
    """CRC32C (Castagnoli), uint32 (N,), of each sample's codes, then its row of each of `fields`, then its key.

    `codes` are N uint8 arrays, C-contiguous, or one array of them; `fields` are arrays (N, …) as they are
    stored, little-endian: of ragged geometry the shapes and sizes, then the labels if there are any; `keys`
    are UTF-8.
    """
    rows = codes.reshape(len(codes), -1) if isinstance(codes, np.ndarray) and len(codes) else codes
    endings = keys
    if fields:
        packed = np.concatenate([_rows_of_bytes(field) for field in fields], axis=1)
        endings = [row.tobytes() + key for row, key in zip(packed, keys, strict=True)]
    sums = [crc32c(ending, crc32c(row)) for row, ending in zip(rows, endings, strict=True)]
    return np.array(sums, np.uint32)


def _rows_of_bytes(field: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(field).reshape(len(field), -1 if len(field) else 0)
    return flat.view(np.uint8).reshape(len(field), flat.shape[1] * field.dtype.itemsize)
