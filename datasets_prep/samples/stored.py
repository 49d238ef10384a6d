"""The forms in which a source returns a sample: the encoded file, or its location."""

from __future__ import annotations

import os
from dataclasses import dataclass

from walloc_cdl.errors import DamagedError, one_line


class BadSignalError(DamagedError):
    """A sample cannot be used. The message is the ledger's reason: the same on every machine, without paths."""


@dataclass(frozen=True)
class ArrayWindow:
    """A stored sample that is a rectangle of one array of a file, which may hold several arrays."""

    path: os.PathLike[str]
    index: int
    """Index along the file's axis N; 0 if there is no such axis."""
    rectangle: tuple[int, int, int, int] | None
    """(top, left, height, width) in pixels; None for the whole array, of any size."""


@dataclass(frozen=True)
class AudioSegment:
    """A stored sample that is a segment of a clip."""

    path: os.PathLike[str]
    start: int
    """First sample of the segment, counted at the preparation's sample rate."""


@dataclass(frozen=True)
class FileSlice:
    """A stored sample that is a range of the bytes of a file, such as a member of a tar, or a file at a URL."""

    path: str
    """A path, or a URL with a scheme that fsspec supports."""
    offset: int = 0
    num_bytes: int | None = None
    """None for everything from `offset` to the end."""


@dataclass(frozen=True)
class KeyedSample:
    """A stored sample with its key, which seeds its random views."""

    key: str
    stored: bytes | os.PathLike[str] | FileSlice


Stored = bytes | os.PathLike[str] | FileSlice | ArrayWindow | AudioSegment | KeyedSample
"""A sample as a source returns it: the encoded file, its path, or its location in a file."""


def failure_reason(error: Exception) -> str:
    """Return the ledger's reason for an exception that a decoder raised on a broken file."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # str(error) would contain the path
    return f"cannot be decoded: {one_line(error)}"
