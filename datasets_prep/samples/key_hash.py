"""A seeded draw among samples by their keys, which depends on no order and no library's random numbers."""

from __future__ import annotations

from walloc_cdl.canonical import sha256_hex


def key_hash(key: str) -> str:
    """What a sample of this key has drawn, 64 hexadecimal digits; those with the smallest are chosen."""
    return sha256_hex(f"0:{key}".encode())
