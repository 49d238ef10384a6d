"""Faults at any call of the file system: an error, a full disk, or the end of the process at that and all later ones.

Calls are those that Python makes below one folder: of `os`, as `pathlib` and `shutil` use them, and of files that
`open` has opened, at the level of system calls. What pyarrow opens by itself is not among them.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "replace", "unlink", "mkdir", "rmdir", "rename", "stat", "lstat", "scandir", "listdir")
CHANGES = ("replace", "mkdir", "rename")
"""Of them, those that need room on the disk; so do writing, and opening a file that is not there yet."""

ALTERATIONS = (*CHANGES, "unlink", "rmdir", "write", "truncate")
"""Calls that change what is below the folder; so does opening a file that is not there yet."""

KINDS = ("error", "disk full", "killed")


class KilledError(BaseException):
    """The process ends here; nothing may catch it, and whatever is tried afterwards fails, too."""


class Faults:
    """Counts calls below a folder, and makes one fail; by default none.

    `kind` is "error" (EIO), "disk full" (ENOSPC, at calls that need room, which alone are counted then) or "killed".
    """

    def __init__(self, patch: pytest.MonkeyPatch, below: Path, kind: str) -> None:
        assert kind in KINDS
        self.kind = kind
        self.num_calls = 0
        self.states: list[int] = []
        """Numbers of the calls before which the folder differs from how it was before the call ahead of them. Whoever
        kills the process at any other call finds the same folder as at the one ahead of it."""
        self._altered = True
        self.first = float("inf")
        self.failed: str | None = None
        """The call that failed, and its path."""
        self._below = os.path.abspath(below)
        self._descriptors: set[int] = set()
        accessor = getattr(pathlib, "_NormalAccessor", None)  # of Python 3.10, which has these calls by itself
        for name in CALLS:
            call = self._faulty(name, getattr(os, name))
            patch.setattr(os, name, call)
            if accessor is not None and name != "open" and hasattr(accessor, name):
                patch.setattr(accessor, name, staticmethod(call))
        if accessor is not None:
            patch.setattr(accessor, "open", staticmethod(self._open_file))
        patch.setattr(os, "fsync", self._fsync)
        patch.setattr(os, "close", self._closing(os.close))
        for module in (builtins, io):
            patch.setattr(module, "open", self._open_file)

    def tick(self, name: str, path: Any, *, needs_room: bool) -> None:
        """One call: it returns if the call may be made. Errors of calls that take a descriptor name no path."""
        if self.kind == "disk full" and not needs_room:
            return
        number, self.num_calls = self.num_calls, self.num_calls + 1
        if self._altered or name == "write":  # of which half arrives
            self.states.append(number)
        self._altered = name in ALTERATIONS or (name == "open" and needs_room)
        if number == self.first:
            self.failed = f"{name} of {path}"
        if self.kind == "killed":
            if number >= self.first:
                raise KilledError
        elif number == self.first:
            code = errno.ENOSPC if self.kind == "disk full" else errno.EIO
            raise OSError(code, os.strerror(code), *([path] if name in CALLS else []))

    def _is_below(self, path: Any, options: dict[str, Any]) -> bool:
        for descriptor in (path, options.get("dir_fd"), options.get("src_dir_fd")):
            if isinstance(descriptor, int):
                return descriptor in self._descriptors
        return isinstance(path, (str, os.PathLike)) and f"{os.path.abspath(path)}/".startswith(f"{self._below}/")

    def _faulty(self, name: str, call: Any) -> Any:
        def faulty(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if not self._is_below(path, options):
                return call(path, *arguments, **options)
            created = name == "open" and bool(arguments and arguments[0] & os.O_CREAT)
            self.tick(name, path, needs_room=name in CHANGES or created)
            result = call(path, *arguments, **options)
            if name == "open":
                self._descriptors.add(result)
            return result

        return faulty

    def _closing(self, close: Any) -> Any:
        def closing(descriptor: int) -> None:
            self._descriptors.discard(descriptor)
            close(descriptor)

        return closing

    def _fsync(self, descriptor: int) -> None:
        """Counted only: these tests cut no power, and syncing would take most of their time."""
        self.tick("fsync", descriptor, needs_room=True)

    def _open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not self._is_below(file, {}):
            return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            self.tick("open", file, needs_room="r" not in mode)
        raw = _FaultyFile(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        if "b" in mode:
            return raw if buffering == 0 else kind(raw)
        return io.TextIOWrapper(kind(raw), encoding or "utf-8", errors, newline)


_OPEN = io.open


class _FaultyFile(io.FileIO):
    """A file without a buffer; half of what is written arrives before the fault."""

    def __init__(self, faults: Faults, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__(file, mode, closefd, opener)
        self._faults = faults

    def write(self, data: Any) -> int:
        try:
            self._faults.tick("write", self.name, needs_room=True)
        except BaseException:
            if self._faults.failed is not None and self._faults.num_calls == self._faults.first + 1:
                super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            raise
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self._faults.tick("truncate", self.name, needs_room=False)
        return super().truncate(size)

    def readinto(self, buffer: Any) -> int | None:
        self._faults.tick("read", self.name, needs_room=False)
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self._faults.tick("read", self.name, needs_room=False)
        return super().readall()
