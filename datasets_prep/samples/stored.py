"""The forms in which a source returns a sample: the encoded file, or its location."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum

from walloc_cdl.errors import DamagedError, one_line


class BadSignalError(DamagedError):
    """A sample cannot be used. The message is the reason in the ledger: equal on every machine, without paths."""


class ReadFailure(Enum):
    """Why the system did not give a sample's content, which may be good."""

    REFUSED = "refused"
    """The system or a server answered that there is no such file, or that it may not be read."""
    FAILED = "failed"
    """The system, a disk, a server or the network failed: an I/O error, a stale handle, no connection."""


class UnreadableError(BadSignalError):
    """A sample cannot be read, by no fault of its content."""

    def __init__(self, reason: str, failure: ReadFailure = ReadFailure.FAILED) -> None:
        super().__init__(reason)
        self.failure = failure


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


@dataclass(frozen=True, kw_only=True)
class ZipMember(FileSlice):
    """A file in a zip archive: `offset` is that of its header, `num_bytes` is its size when it is unpacked."""

    packed_bytes: int
    """Its size in the archive."""
    method: int
    """The method of compression, see `zip_members`."""
    crc32: int
    """The checksum of its content."""


@dataclass(frozen=True)
class KeyedSample:
    """A stored sample with its key in the source, which seeds the random values drawn for it."""

    key: str
    stored: bytes | os.PathLike[str] | FileSlice | UnusableSample


@dataclass(frozen=True)
class UnusableSample:
    """A stored sample of which the source found that it cannot be used."""

    reason: str
    failure: ReadFailure | None = None
    """None if the system was not at fault."""

    @staticmethod
    def from_error(error: BadSignalError) -> UnusableSample:
        """Return the sample for the exception that reading it raised."""
        return UnusableSample(str(error), error.failure if isinstance(error, UnreadableError) else None)

    def error(self) -> BadSignalError:
        """Return the exception that reading it raises."""
        return BadSignalError(self.reason) if self.failure is None else UnreadableError(self.reason, self.failure)


Stored = bytes | os.PathLike[str] | FileSlice | ArrayWindow | AudioSegment | KeyedSample | UnusableSample
"""A sample as a source returns it: the encoded file, its path, its location in a file, or why there is none."""


REFUSALS = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM))
"""Numbers of errors with which a system that works answers for a file that it does not have, or does not give."""


def read_failure(error: Exception) -> ReadFailure | None:
    """Return how the system failed to read a file; None for errors of other origin, such as those of decoders."""
    if not isinstance(error, OSError) or error.errno is None:  # decoders raise `OSError` without a number
        return None
    return ReadFailure.REFUSED if error.errno in REFUSALS else ReadFailure.FAILED


def sample_error(error: Exception) -> BadSignalError:
    """Return the error of a sample for an exception that was raised while reading or decoding its file."""
    failure = read_failure(error)
    return BadSignalError(failure_reason(error)) if failure is None else UnreadableError(failure_reason(error), failure)


def failure_reason(error: Exception) -> str:
    """Return the reason that the ledger stores for an exception raised while reading or decoding a file."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # str(error) would carry the path
    return f"cannot be decoded: {one_line(error)}"
