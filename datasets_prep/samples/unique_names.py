"""Detects repeated names among any number of names, in constant memory."""

from __future__ import annotations

import hashlib

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS


def name_hash(key: bytes) -> int:
    """Return 64 bits of a name's BLAKE2b hash.

    Among 100 million distinct names, a collision has a probability of 3 in 10,000; keys then get their longer form.
    """
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def has_repeats(hashes: np.ndarray) -> bool:
    """Return whether a hash, uint64, occurs twice; in constant memory, one residue class modulo 16 at a time."""
    parts = 16 if len(hashes) > CHUNK_ROWS else 1
    for part in range(parts):
        selected = [np.empty(0, np.uint64)]
        for start in range(0, len(hashes), CHUNK_ROWS):
            chunk = np.asarray(hashes[start : start + CHUNK_ROWS])
            selected.append(chunk[chunk % np.uint64(parts) == part])
        values = np.sort(np.concatenate(selected))
        if (values[1:] == values[:-1]).any():
            return True
    return False
