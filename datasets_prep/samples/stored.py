"""The forms in which a source returns a sample: the encoded file, or its location."""

from __future__ import annotations

import os
from dataclasses import dataclass

from walloc_cdl.errors import DamagedError, one_line


class BadSignalError(DamagedError):
    """A sample cannot be used. The message is the reason in the ledger: equal on every machine, without paths."""


@dataclass(frozen=True)
class ArrayWindow:
    """A stored sample that is a rectangle of one of the arrays in a file."""

    path: os.PathLike[str]
    index: int
    """Index along the file's axis N; 0 if the file has no such axis."""
    rectangle: tuple[int, int, int, int] | None
    """(top, left, height, width) in pixels; None for the whole array."""


@dataclass(frozen=True)
class AudioSegment:
    """A stored sample that is a segment of a clip."""

    path: os.PathLike[str]
    start: int
    """Index of the first audio sample, at the preparation's sample rate."""


@dataclass(frozen=True)
class FileSlice:
    """A stored sample that is a byte range of a file, such as a member of a tar, or a file at a URL."""

    path: str
    """A path, or a URL with a scheme that fsspec supports."""
    offset: int = 0
    num_bytes: int | None = None
    """None for everything from `offset` to the end."""
    public: bool = False
    """Whether a URL, and what it redirects to, must be at public addresses, not at ones of this machine's networks."""


@dataclass(frozen=True)
class KeyedSample:
    """A stored sample with its key in the source, which seeds the random values drawn for it."""

    key: str
    stored: bytes | os.PathLike[str] | FileSlice


Stored = bytes | os.PathLike[str] | FileSlice | ArrayWindow | AudioSegment | KeyedSample
"""A sample as a source returns it: the encoded file, its path, or its location in a file."""


def failure_reason(error: Exception) -> str:
    """Return the reason that the ledger stores for an exception raised while reading or decoding a file."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # str(error) would carry the path
    return f"cannot be decoded: {one_line(error)}"
