"""How a source hands over a sample: the encoded file, or where it lies."""

from __future__ import annotations

import os
from dataclasses import dataclass

from walloc_cdl.errors import DamagedError, one_line


class BadSignalError(DamagedError):
    """This one sample cannot be used. The message is the ledger's reason: the same on every machine, without paths."""


@dataclass(frozen=True)
class ArrayWindow:
    """A stored sample that is a rectangle of one array of a file, which may hold many."""

    path: os.PathLike[str]
    index: int
    """Along the file's axis N; 0 without one."""
    rectangle: tuple[int, int, int, int] | None
    """(top, left, height, width); None for the whole array, whatever its size."""


@dataclass(frozen=True)
class AudioSegment:
    """A stored sample that is a piece of a clip."""

    path: os.PathLike[str]
    start: int
    """First sample, counted at the preparation's sample rate."""


@dataclass(frozen=True)
class FileSlice:
    """A stored sample that is a range of the bytes of a file, as a member of a tar, or a file at a URL."""

    path: str
    """A path, or a URL of a scheme that fsspec knows."""
    offset: int = 0
    num_bytes: int | None = None
    """None for all that follows `offset`."""


@dataclass(frozen=True)
class KeyedSample:
    """A stored sample with its name in the source, which seeds what is drawn for it."""

    key: str
    stored: bytes | os.PathLike[str] | FileSlice


Stored = bytes | os.PathLike[str] | FileSlice | ArrayWindow | AudioSegment | KeyedSample
"""How a source hands over a sample: the encoded file, its path, or where in a file it lies."""


def failure_reason(error: Exception) -> str:
    """The ledger's words for whatever a decoder raised on a broken file."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # str(error) would carry the path
    return f"cannot be decoded: {one_line(error)}"
