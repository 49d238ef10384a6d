"""Move a byte range within an open file in constant memory."""

from __future__ import annotations

from typing import BinaryIO

_CHUNK_BYTES = 1 << 20


def move_range(file: BinaryIO, begin: int, length: int, target: int) -> None:
    """Move `length` bytes from `begin` to `target`; the ranges may overlap."""
    if begin == target:
        return
    starts = range(0, length, _CHUNK_BYTES)
    for start in starts if target < begin else reversed(starts):  # so that nothing is overwritten before it is read
        file.seek(begin + start)
        chunk = file.read(min(_CHUNK_BYTES, length - start))
        file.seek(target + start)
        file.write(chunk)
