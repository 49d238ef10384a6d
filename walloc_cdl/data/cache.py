"""A bounded folder of files named by their SHA-256, which several processes share.

The cache holds whole shards under the names of their content: shuffled batches touch every shard anyway, a hash can be
checked only of a whole file, and shards that two data sets or versions share are fetched once. The manifest is never
cached, since it says which content is current.

A file is complete or absent, so the content under a name was checked when it was written. The least recently
used files are removed to make room, except those that this process has open. Another process may have a removed file
open: on POSIX systems its map stays valid, and the space is freed when it is closed; Windows refuses to remove
the file, and the next one is removed instead.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from walloc_cdl.addresses import local_path
from walloc_cdl.confinement import confined, is_link
from walloc_cdl.errors import CallError
from walloc_cdl.file_locks import LockState, open_locked
from walloc_cdl.files import is_temporary, open_atomic, remove_file, remove_temporaries

FOLDER_VARIABLE = "WALLOC_CDL_CACHE"
"""Environment variable for the cache's folder."""
BYTES_VARIABLE = "WALLOC_CDL_CACHE_BYTES"
"""Environment variable for the cache's size limit in bytes."""
DEFAULT_BYTES = 50_000_000_000
LOCK_NAME = "lock"
"""The lock file in each subfolder, which a process holds while it fetches a file into the subfolder."""

_IN_USE: Counter[tuple[Path, str]] = Counter()
_IN_USE_LOCK = threading.RLock()
"""Reentrant, since a finalizer may call `release` in a thread that has the lock."""


def default_folder() -> Path:
    """Returns `WALLOC_CDL_CACHE` if it is set, otherwise `walloc-cdl` in the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return local_path(named)
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "walloc-cdl"


def default_bytes() -> int:
    """Returns `WALLOC_CDL_CACHE_BYTES` if set, otherwise `DEFAULT_BYTES`; raises `CallError` unless it is a number."""
    text = os.environ.get(BYTES_VARIABLE, str(DEFAULT_BYTES))
    try:
        return int(text)
    except ValueError as error:
        raise CallError(f"{BYTES_VARIABLE} is {text!r}; expected a number of bytes, such as {DEFAULT_BYTES}") from error


@dataclass(frozen=True)
class FileCache:
    """Files by SHA-256 in a folder of at most `max_bytes`, not counting files that are being fetched."""

    folder: Path
    max_bytes: int

    def fetch(self, sha256: str, num_bytes: int, download: Callable[[BinaryIO], None]) -> Path:
        """Returns the path of a file; if it is absent, `download` writes it, and must check its content.

        Processes and threads that need the same file wait for the one that fetches it. The file may be removed
        again at any time, unless it is held with `hold`.
        """
        path = self._path(sha256)
        if self._find(path, num_bytes):
            return path
        with confined(self.folder), open_locked(path.parent / LOCK_NAME, wait=True) as (_, state):
            if self._find(path, num_bytes):
                return path
            if state is LockState.HELD:
                remove_temporaries(path.parent)  # their writers would hold the lock if they were still running
            self.make_room(num_bytes)
            with open_atomic(path) as file:
                download(file)
        return path

    def hold(self, sha256: str) -> None:
        """Keep this process from removing a file, until `release` has been called as often as `hold`."""
        with _IN_USE_LOCK:
            _IN_USE[self.folder, sha256] += 1

    def release(self, sha256: str) -> None:
        """Undo one call of `hold`."""
        with _IN_USE_LOCK:
            _IN_USE[self.folder, sha256] -= 1

    def make_room(self, num_bytes: int) -> None:
        """Remove the least recently used files, as far as possible, until `num_bytes` more fit within the limit."""
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) + num_bytes - self.max_bytes
        with confined(self.folder):
            for _, size, path in files:
                if excess <= 0:
                    return
                if not _IN_USE[self.folder, path.name]:
                    with contextlib.suppress(OSError):  # in use on Windows
                        remove_file(path)
                        excess -= size

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _find(self, path: Path, num_bytes: int) -> bool:
        """Returns whether the file exists, and marks it as just used."""
        if is_link(path.parent):  # `fetch` then names it
            return False
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != num_bytes:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield time of last use, size and path of every file."""
        folders = (path for path in self.folder.glob("[0-9a-f][0-9a-f]") if not is_link(path))
        for path in (path for folder in folders for path in folder.glob("*")):
            if path.name != LOCK_NAME and not is_temporary(path.name):
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    yield status.st_mtime, status.st_size, path
