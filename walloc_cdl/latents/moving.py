"""Moving and hashing parts of an open file in constant memory."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

_PIECE_BYTES = 1 << 20


def move_range(file: BinaryIO, begin: int, length: int, target: int) -> None:
    """Move `length` bytes from `begin` to `target`; the ranges may overlap."""
    if begin == target:
        return
    starts = range(0, length, _PIECE_BYTES)
    for start in starts if target < begin else reversed(starts):  # so that nothing is overwritten before it is read
        file.seek(begin + start)
        piece = file.read(min(_PIECE_BYTES, length - start))
        file.seek(target + start)
        file.write(piece)


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of the whole file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
