"""File locks between processes and threads, which the system releases when the process that holds them ends.

The locks use `flock` rather than the package filelock: slices of a job share a lock, and filelock implements shared
locks as an SQLite database or as marker files that outlive a killed process. Neither records who holds the lock.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class LockState(enum.Enum):
    """The result of an attempt to lock a file."""

    HELD = "held"
    TAKEN = "taken"
    """Another process or thread holds the lock."""
    UNSUPPORTED = "unsupported"
    """Windows and some network file systems do not support `flock`."""


@contextmanager
def open_locked(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[tuple[IO[str], LockState]]:
    """Open the file at `path` for appending and reading text, lock it, and yield the file and the state of the lock.

    The file and its folder are created if necessary. A `shared` lock is compatible with other shared locks. Without
    `wait`, the state may be `TAKEN`. A holder may remove the file; a waiting process then locks the file that is at
    `path` now.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            state = lock(file, shared=shared, wait=wait)
            if state is not LockState.HELD or not _was_removed(file, path):
                yield file, state
                return


def lock(file: IO[str], *, shared: bool = False, wait: bool = False) -> LockState:
    """Lock an open file until it is closed; see `open_locked` for the arguments."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return LockState.UNSUPPORTED
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, mode if wait else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockState.TAKEN
    except OSError:
        return LockState.UNSUPPORTED
    return LockState.HELD


def _was_removed(file: IO[str], path: Path) -> bool:
    opened = os.fstat(file.fileno())
    return not opened.st_nlink and not (path.exists() and os.path.samestat(opened, path.stat()))
