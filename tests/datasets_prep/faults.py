"""Faults at any call of the file system: the end of the process, at that and all later ones, or an error at one."""

from __future__ import annotations

import errno
import io
import os
from typing import Any

import pytest

CALLS = ("open", "replace", "unlink", "mkdir", "rmdir", "fsync", "rename")


class KilledError(BaseException):
    """The process ends here; nothing may catch it, and whatever is tried afterwards fails, too."""


class Faults:
    """Counts calls, and makes them fail from a given one on; by default none."""

    def __init__(self, patch: pytest.MonkeyPatch, *, kill: bool) -> None:
        self.kill = kill
        self.num_calls = 0
        self.first = float("inf")
        for name in CALLS:
            patch.setattr(os, name, self._faulty(getattr(os, name)))
        fdopen = os.fdopen

        def open_faulty(descriptor: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode != "w+b":
                return fdopen(descriptor, mode, *arguments, **options)
            return _FaultyFile(self, descriptor)

        patch.setattr(os, "fdopen", open_faulty)

    def tick(self) -> None:
        number, self.num_calls = self.num_calls, self.num_calls + 1
        if self.kill and number >= self.first:
            raise KilledError
        if not self.kill and number == self.first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _faulty(self, call: Any) -> Any:
        def faulty(*arguments: Any, **options: Any) -> Any:
            self.tick()
            return call(*arguments, **options)

        return faulty


class _FaultyFile(io.BufferedRandom):
    """What `walloc_cdl.files` writes to; half of what is written arrives before the fault."""

    def __init__(self, faults: Faults, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "r+"))
        self._faults = faults

    def write(self, data: Any) -> int:
        try:
            self._faults.tick()
        except BaseException:
            super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            raise
        return super().write(data)
