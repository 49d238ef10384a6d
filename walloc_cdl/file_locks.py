"""File locks between processes and threads, which the system releases when the process that holds them ends.

The locks use `flock` rather than the package filelock: slices of a job share a lock, and filelock implements shared
locks as an SQLite database or as marker files that outlive a killed process. Neither records who holds the lock.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from walloc_cdl.confinement import NO_FOLLOW, is_link, link_error, opened_folder, opened_parent
from walloc_cdl.errors import CallError

OPEN_ATTEMPTS = 100
"""How often a lock's file is opened, as its folder is removed whenever a job is done."""


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
    `path` now. Raises as `open_lock_file` does.
    """
    while True:
        with open_lock_file(path, create=True) as file:
            state = lock(file, shared=shared, wait=wait)
            if state is not LockState.HELD or not _was_removed(file, path):
                yield file, state
                return


def open_lock_file(path: Path, *, create: bool = False) -> IO[str]:
    """Open the file of a lock for appending and reading text; `create` makes it and its folder if necessary.

    Raises `CallError` for a link, for what is no regular file, and for a file that has another name too, since whoever
    holds a lock writes into its file.
    """
    for attempt in range(OPEN_ATTEMPTS):
        try:
            with opened_parent(path, create=create) as (name, folder):
                flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0) | NO_FOLLOW
                flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
                descriptor = os.open(name, flags, 0o666, dir_fd=folder)
            break
        except FileNotFoundError:  # the process that held the lock has just removed its folder
            if not create or attempt + 1 == OPEN_ATTEMPTS:
                raise
        except OSError as error:
            if is_link(path):
                raise link_error(path) from error
            raise
    # After the loop, the file is open: the last attempt raises if it fails.
    status = os.fstat(descriptor)  # pyrefly: ignore[unbound-name]
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return os.fdopen(descriptor, "a+", encoding="utf-8")
    os.close(descriptor)
    raise CallError(f"{path} is not the file of a lock, which is a regular file of a single name; remove it")


@contextmanager
def locked_folder(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[LockState]:
    """Lock a folder itself, which must exist, without a file in it; see `open_locked` for the arguments."""
    with opened_folder(path) as descriptor:
        if descriptor is None:
            yield LockState.UNSUPPORTED
        else:
            yield lock(descriptor, shared=shared, wait=wait)


def lock(file: IO[str] | int, *, shared: bool = False, wait: bool = False) -> LockState:
    """Lock an open file, or a descriptor, until it is closed; see `open_locked` for the arguments."""
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
