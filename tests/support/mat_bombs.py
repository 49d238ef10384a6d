"""MATLAB files (version 5) of some kB, whose compressed variables stand for much more memory."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15
CELL, DOUBLE, UINT8 = 1, 6, 9


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def variable(kind: int, shape: tuple[int, ...], content: bytes, name: bytes = b"Y") -> bytes:
    """The element of a variable: `content` is what follows its description, such as `numbers` or `cells`."""
    description = _element(_UINT32, struct.pack("<II", kind, 0)) + _element(
        _INT32, struct.pack(f"<{len(shape)}i", *shape)
    )
    return _element(_MATRIX, description + _element(_INT8, name) + content)


def numbers(num_bytes: int) -> bytes:
    """Zeros, stored in a byte each, as MATLAB stores small whole numbers of any type."""
    return _element(_UINT8, bytes(num_bytes))


def cells(count: int) -> bytes:
    """Empty cells, each of 8 bytes."""
    return struct.pack("<II", _MATRIX, 0) * count


def write_mat(path: Path, *variables: bytes) -> Path:
    """Write compressed variables."""
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    packed = [zlib.compress(data) for data in variables]
    path.write_bytes(header + b"".join(struct.pack("<II", _COMPRESSED, len(data)) + data for data in packed))
    return path
