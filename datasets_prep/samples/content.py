"""The bytes of a stored sample, wherever they lie, read once: what is hashed is what is decoded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from datasets_prep.samples.locations import FetchError, read_range
from datasets_prep.samples.stored import BadSignalError, FileSlice, Stored, failure_reason

MAX_FILE_BYTES = 2**30
"""Largest file taken into memory. The largest image that is decoded has half of that, uncompressed in 16-bit color."""


def read_stored(stored: Stored) -> bytes:
    """The encoded sample.

    Raises `BadSignalError` for what cannot be read, is no file, exceeds `MAX_FILE_BYTES`, or has fewer bytes than
    were listed, and `TypeError` for windows of arrays and segments of clips, which are no files of their own.
    """
    if isinstance(stored, bytes):
        return stored
    if isinstance(stored, FileSlice):
        return _read_slice(stored)
    if not isinstance(stored, os.PathLike):
        raise TypeError(f"{type(stored).__name__} is not a whole file")
    try:
        # Looked at before it is opened: that alone would wait for the other end of a pipe.
        status = os.stat(stored)
        regular = stat.S_ISREG(status.st_mode)
        data = Path(stored).read_bytes() if regular and status.st_size <= MAX_FILE_BYTES else None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte, as a list of files may have it
        raise BadSignalError(failure_reason(error)) from error
    if not regular:
        raise BadSignalError("not a regular file")
    if data is None:
        raise BadSignalError(f"a file of {status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
    return data


def _read_slice(stored: FileSlice) -> bytes:
    if (stored.num_bytes or 0) > MAX_FILE_BYTES:
        raise BadSignalError(f"{stored.num_bytes:,} bytes, more than {MAX_FILE_BYTES:,}")
    try:
        data = read_range(stored.path, stored.offset, stored.num_bytes, limit=MAX_FILE_BYTES)
    except FetchError as error:
        raise BadSignalError(f"cannot be fetched: {error}") from error
    except OSError as error:
        raise BadSignalError(failure_reason(error)) from error
    if stored.num_bytes is not None and len(data) != stored.num_bytes:
        raise BadSignalError(f"{len(data):,} bytes, where {stored.num_bytes:,} were listed")
    return data
