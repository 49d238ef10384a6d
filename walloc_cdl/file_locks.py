"""Locks on files between processes and threads, which the system drops with the process that holds them.

By `flock` rather than the package filelock: slices of a job share a lock, and there shared locks are an SQLite
database, or marker files that outlive a killed process; neither says who holds it.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class LockState(enum.Enum):
    """What came of asking for a lock."""

    HELD = "held"
    TAKEN = "taken"
    """Somebody else has it."""
    UNSUPPORTED = "unsupported"
    """The system has no such locks: Windows, and some network file systems."""


@contextmanager
def open_locked(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[tuple[IO[str], LockState]]:
    """The file at `path`, opened to append text and to read, and the state of the lock on it, within the block.

    File and folder are made if need be. A `shared` lock goes with other shared ones; `wait` for it, else it may be
    `TAKEN`. A holder may remove the file: whoever waited for it then locks the one that is there now.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            state = lock(file, shared=shared, wait=wait)
            if state is not LockState.HELD or not _was_removed(file, path):
                yield file, state
                return


def lock(file: IO[str], *, shared: bool = False, wait: bool = False) -> LockState:
    """Lock an open file until it is closed; see `open_locked`."""
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
