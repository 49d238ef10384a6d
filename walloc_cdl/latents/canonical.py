"""Canonical JSON and SHA-256, of values and of files on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from walloc_cdl.canonical import canonical_json, sha256_hex

__all__ = ["canonical_json", "sha256_file", "sha256_hex"]

_CHUNK_BYTES = 1 << 20


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file as 64 hexadecimal digits, in constant memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
