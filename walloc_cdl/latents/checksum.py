"""The CRC32C of each sample, by which damaged samples are found inside a damaged shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from crc32c import crc32c


def sample_checksums(
    codes: np.ndarray | Sequence[np.ndarray], fields: Sequence[np.ndarray], keys: Sequence[bytes]
) -> np.ndarray:
    """Return each sample's CRC32C (Castagnoli), uint32 (N,), over its codes, its row of each field, and its key.

    `codes` are N uint8 arrays, C-contiguous, or one array of them. `fields` are arrays (N, …) as they are
    stored, little-endian: shapes and sizes if the geometry is ragged, then labels if there are any. `keys` are
    UTF-8.
    """
    rows = codes.reshape(len(codes), -1) if isinstance(codes, np.ndarray) and len(codes) else codes
    suffixes = keys
    if fields:
        packed = np.concatenate([_byte_rows(field) for field in fields], axis=1)
        suffixes = [row.tobytes() + key for row, key in zip(packed, keys, strict=True)]
    checksums = [crc32c(suffix, crc32c(row)) for row, suffix in zip(rows, suffixes, strict=True)]
    return np.array(checksums, np.uint32)


def _byte_rows(field: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(field).reshape(len(field), -1 if len(field) else 0)
    return flat.view(np.uint8).reshape(len(field), flat.shape[1] * field.dtype.itemsize)
