"""Whether names repeat among any number of them, in constant memory."""

from __future__ import annotations

import hashlib

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS


def name_hash(key: bytes) -> int:
    """64 bits of a name's BLAKE2b.

    Two of 100 million names share them by chance in 3 of 10,000 cases; keys then get their longer form.
    """
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def has_repeats(hashes: np.ndarray) -> bool:
    """Whether a number, uint64, occurs twice; in constant memory, by sixteenths of their range."""
    parts = 16 if len(hashes) > CHUNK_ROWS else 1
    for part in range(parts):
        chosen = [np.empty(0, np.uint64)]
        for start in range(0, len(hashes), CHUNK_ROWS):
            chunk = np.asarray(hashes[start : start + CHUNK_ROWS])
            chosen.append(chunk[chunk % np.uint64(parts) == part])
        values = np.sort(np.concatenate(chosen))
        if (values[1:] == values[:-1]).any():
            return True
    return False
