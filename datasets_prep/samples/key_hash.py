"""Random selection of samples by a hash of their keys, independent of their order and of any library's generator."""

from __future__ import annotations

from walloc_cdl.canonical import sha256_hex


def key_hash(key: str) -> str:
    """Return the hash of a key, 64 hexadecimal digits. A selection takes the samples with the smallest hashes."""
    return sha256_hex(f"0:{key}".encode())
