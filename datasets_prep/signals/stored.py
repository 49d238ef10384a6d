"""The bytes of a stored sample, wherever they lie. Workers import this, see `datasets_prep.signals`."""

from __future__ import annotations

import os
from pathlib import Path

from datasets_prep.locations import MAX_FETCHED_BYTES, FetchError, read_range
from datasets_prep.signals.base import BadSignalError, FileSlice, Stored, failure_reason


def stored_bytes(stored: Stored) -> bytes:
    """The encoded file; raises `BadSignalError` where it cannot be read or has fewer bytes than were listed.

    Raises `TypeError` for windows of arrays and segments of clips, which are no files of their own.
    """
    if isinstance(stored, bytes):
        return stored
    try:
        if isinstance(stored, os.PathLike):
            return Path(stored).read_bytes()
        if not isinstance(stored, FileSlice):
            raise TypeError(f"{type(stored).__name__} is not a whole file")
        if (stored.num_bytes or 0) > MAX_FETCHED_BYTES:
            raise BadSignalError(f"{stored.num_bytes:,} bytes, more than {MAX_FETCHED_BYTES:,}")
        data = read_range(stored.path, stored.offset, stored.num_bytes)
    except FetchError as error:
        raise BadSignalError(f"cannot be fetched: {error}") from error
    except OSError as error:
        raise BadSignalError(failure_reason(error)) from error
    if stored.num_bytes is not None and len(data) != stored.num_bytes:
        raise BadSignalError(f"{len(data):,} bytes, where {stored.num_bytes:,} were listed")
    return data
