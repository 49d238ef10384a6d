"""Atomic file writes: no reader sees, and no killed writer leaves, a partial file under its final name."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def write_atomic(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` so that at every moment `path` holds either the old file or the complete new one."""
    with open_atomic(path) as file:
        file.write(data)


@contextmanager
def open_atomic(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file for writing and reading that replaces `path` when the block ends, and is removed when it fails.

    The temporary file has a unique name in the same folder, so that two writers of the same file cannot mix. It is
    synced before the rename, so that the name never points at missing bytes; the folder is synced after it, so that
    the rename itself survives a power failure.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:  # a failed write does not name its file
            error.filename = str(path)
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading; raises `OSError` for anything else, such as a pipe, which could be waited for forever.

    The error's `strerror` is then "not a regular file".
    """
    # O_NONBLOCK: opening a pipe returns at once; it has no effect on regular files
    nonblocking = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking))  # noqa: SIM115 - returned
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ENOTSUP, "not a regular file", os.fspath(path))
    return file


def is_temporary(name: str) -> bool:
    """Return whether `name` is the name of a temporary file that a killed `write_atomic` left behind.

    >>> is_temporary(".results.json.0123456789abcdef.tmp")
    True
    """
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of killed writers from a folder, which need not exist."""
    for path in folder.glob(".*.tmp"):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)


def foreign_names(folder: Path, expected: set[str]) -> list[str]:
    """Return the sorted names in a folder that are neither `expected` nor temporary files of killed writers.

    A folder that does not exist has none.
    """
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name not in expected and not is_temporary(path.name))


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable, so that they survive a power failure."""
    if os.name == "nt":  # folders cannot be opened on Windows
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
