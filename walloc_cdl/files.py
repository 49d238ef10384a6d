"""Changes to files and folders, none of which follows a link below a folder in use (`walloc_cdl.confinement`).

Writes are atomic: no reader sees, and no killed writer leaves, a partial file under its final name.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from walloc_cdl.confinement import (
    NO_FOLLOW,
    confined,
    errors_of,
    is_confined,
    is_link,
    link_error,
    opened_folder,
    opened_parent,
)

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")


def write_atomic(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` so that at every moment `path` holds either the old file or the complete new one.

    A link at `path` is replaced, not followed.
    """
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
    with opened_parent(path) as (name, folder):
        temporary = os.fspath(Path(name).with_name(f".{path.name}.{secrets.token_hex(8)}.tmp"))
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException as error:
            if isinstance(error, OSError) and error.filename in (None, temporary):  # a failed write names no file
                error.filename, error.filename2 = os.fspath(path), None
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        _sync(path.parent, folder)


@contextmanager
def open_existing(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file for reading whose content goes into another one.

    Raises `CallError` for a link below a folder in use, which could lead to any file of this machine.
    """
    path = Path(path)
    with opened_parent(path) as (name, folder):
        if is_confined(path) and is_link(name, folder):
            raise link_error(path)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | (0 if folder is None else NO_FOLLOW)
        with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
            yield file


def make_folder(path: Path | str) -> None:
    """Create a folder and its missing parents; it may exist already."""
    with opened_folder(path, create=True):
        pass


def remove_file(path: Path | str) -> None:
    """Remove a file, or a link but not what it leads to; there need not be one."""
    with suppress(FileNotFoundError), opened_parent(path) as (name, folder):
        os.unlink(name, dir_fd=folder)


def move_file(source: Path | str, target: Path | str) -> None:
    """Rename a file, replacing the one at `target`, whose folder must exist; a link is renamed or replaced itself."""
    with opened_parent(source) as (name, folder), opened_parent(target) as (new_name, new_folder):
        os.replace(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)


def link_file(source: Path | str, target: Path | str) -> None:
    """Give a file a second name, which must be free; raises `OSError` where the file system has no hard links."""
    options = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
    with opened_parent(source) as (name, folder), opened_parent(target) as (new_name, new_folder):
        os.link(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder, **options)


def remove_folder(path: Path | str) -> None:
    """Remove a folder, unless it holds something or is not there; raises `OSError` if the system fails."""
    try:
        with opened_parent(path) as (name, folder):
            os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


def remove_tree(path: Path | str) -> None:
    """Remove a folder with all that it holds; there need not be one. Links in it are removed, and never followed.

    Raises `CallError` if `path` itself is a link.
    """
    path = Path(path)
    if not path.is_dir() and not is_link(path):
        return
    with confined(path.parent):
        if is_link(path):
            raise link_error(path)
        folders, waiting = [], [path]
        while waiting:
            folders.append(waiting.pop())
            waiting += _remove_files(folders[-1])
        for folder in reversed(folders):
            with suppress(FileNotFoundError), opened_parent(folder) as (name, parent):
                os.rmdir(name, dir_fd=parent)


def _remove_files(folder: Path) -> list[Path]:
    """Remove all from a folder but its subfolders, which are returned."""
    subfolders = []
    with suppress(FileNotFoundError), opened_folder(folder) as descriptor:
        with os.scandir(folder if descriptor is None else descriptor) as entries:
            found = list(entries)
        for entry in found:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False) and not (descriptor is None and is_link(path)):
                subfolders.append(path)
            else:
                remove_file(path)
    return subfolders


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


def remove_temporaries(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the temporary files of killed writers, of all files or those of these names, from a folder.

    The folder need not exist.
    """
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and (names is None or match[1] in names):
            remove_file(path)


def foreign_names(folder: Path, expected: set[str]) -> list[str]:
    """Return the sorted names in a folder that are neither `expected` nor temporary files of killed writers.

    A folder that does not exist has none.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name not in expected and not is_temporary(name))


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable, so that they survive a power failure."""
    with opened_folder(folder) as descriptor:
        if descriptor is not None:  # folders cannot be opened on Windows
            with errors_of(folder):
                os.fsync(descriptor)


def _sync(path: Path, descriptor: int | None) -> None:
    """Sync a folder that may be open already."""
    if descriptor is None:
        sync_folder(path)
    else:
        os.fsync(descriptor)
