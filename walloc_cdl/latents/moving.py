"""Moving a part of an open file in constant memory."""

from __future__ import annotations

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
