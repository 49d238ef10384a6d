"""A bounded folder of files under the names of their content, which processes share.

A file is there in full or not at all, so what lies under a name was once checked against it. The least recently
used are removed to make room, but none that this process has open. Another process may have one open: on POSIX
systems the map of a removed file stays valid, and its space is freed when it is closed; Windows refuses to remove
it, and the next is taken.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from walloc_cdl.errors import CallError
from walloc_cdl.file_locks import LockState, open_locked
from walloc_cdl.files import is_temporary, open_atomic, remove_temporaries

FOLDER_VARIABLE = "WALLOC_CDL_CACHE"
"""Environment variable that names the cache's folder."""
BYTES_VARIABLE = "WALLOC_CDL_CACHE_BYTES"
"""Environment variable that bounds it."""
DEFAULT_BYTES = 50_000_000_000
LOCK_NAME = "lock"
"""A file in each folder of files, which whoever fetches one of them holds."""

_IN_USE: Counter[tuple[Path, str]] = Counter()
_IN_USE_LOCK = threading.RLock()
"""Reentrant, as a finalizer may release a file while its thread holds another."""


def default_folder() -> Path:
    """`WALLOC_CDL_CACHE`, else `walloc-cdl` in the user's folder for caches."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "walloc-cdl"


def default_bytes() -> int:
    """`WALLOC_CDL_CACHE_BYTES`, else `DEFAULT_BYTES`; `CallError` for anything but a number."""
    text = os.environ.get(BYTES_VARIABLE, str(DEFAULT_BYTES))
    try:
        return int(text)
    except ValueError as error:
        raise CallError(f"{BYTES_VARIABLE} is {text!r}; expected a number of bytes, as {DEFAULT_BYTES}") from error


@dataclass(frozen=True)
class FileCache:
    """Files by SHA-256 in a folder of at most `max_bytes`, not counting those that are just being fetched."""

    folder: Path
    max_bytes: int

    def fetch(self, sha256: str, num_bytes: int, download: Callable[[BinaryIO], None]) -> Path:
        """The path of a file; `download`, which must check it, writes it unless it is there.

        Processes and threads that want the same file wait for the one that fetches it. The file may be removed
        again at any time, unless it is held with `hold`.
        """
        path = self._path(sha256)
        if self._find(path, num_bytes):
            return path
        with open_locked(path.parent / LOCK_NAME, wait=True) as (_, state):
            if self._find(path, num_bytes):
                return path
            if state is LockState.HELD:
                remove_temporaries(path.parent)  # whoever wrote them would hold the lock
            self.make_room(num_bytes)
            with open_atomic(path) as file:
                download(file)
        return path

    def hold(self, sha256: str) -> None:
        """Keep a file from being removed by this process, until as many calls of `release`."""
        with _IN_USE_LOCK:
            _IN_USE[self.folder, sha256] += 1

    def release(self, sha256: str) -> None:
        """End one `hold`."""
        with _IN_USE_LOCK:
            _IN_USE[self.folder, sha256] -= 1

    def make_room(self, num_bytes: int) -> None:
        """Remove the least recently used files until `num_bytes` more stay within the bound, as far as possible."""
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) + num_bytes - self.max_bytes
        for _, size, path in files:
            if excess <= 0:
                return
            if not _IN_USE[self.folder, path.name]:
                with contextlib.suppress(OSError):  # removed by somebody else, or in use on Windows
                    path.unlink()
                    excess -= size

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _find(self, path: Path, num_bytes: int) -> bool:
        """Whether the file is there; marks it as just used."""
        try:
            if path.stat().st_size != num_bytes:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of last use, size and path of every file."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if path.name != LOCK_NAME and not is_temporary(path.name):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    yield stat.st_mtime, stat.st_size, path
