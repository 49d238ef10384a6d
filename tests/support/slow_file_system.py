"""A file system of fsspec in memory that is slow, for the time limits of what is read from remote places."""

from __future__ import annotations

import io
import threading
import time
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

HANG_S = 5.0
"""How long a call waits at most; a test that waits for it fails."""


class SlowFileSystem(MemoryFileSystem):
    """A file system whose calls named in `slow` stall, or drip: they never end, but do something all the time."""

    protocol = "slow"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    slow: ClassVar[set[str]] = set()
    drips: ClassVar[bool] = False
    instances: ClassVar[set[int]] = set()

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return MemoryFileSystem._strip_protocol(str(path).replace("slow://", "memory://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"slow:/{name}"

    def _wait(self, name: str) -> None:
        self.instances.add(id(self))
        if name not in self.slow:
            return
        if not self.drips:
            threading.Event().wait(HANG_S)
            return
        end = time.monotonic() + HANG_S
        while time.monotonic() < end:
            time.sleep(0.01)

    def isdir(self, path: str) -> bool:
        self._wait("isdir")
        return super().isdir(path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list:
        self._wait("ls")
        return super().ls(path, detail, **options)

    def find(self, path: str, *arguments: Any, **options: Any) -> list:
        self._wait("find")
        return super().find(path, *arguments, **options)

    def glob(self, path: str, *arguments: Any, **options: Any) -> list:
        self._wait("glob")
        return super().glob(path, *arguments, **options)

    def size(self, path: str) -> int:
        self._wait("size")
        return super().size(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._wait("cat_file")
        return super().cat_file(path, start, end, **options)

    def put_file(self, *arguments: Any, **options: Any) -> None:
        self._wait("put_file")
        super().put_file(*arguments, **options)

    def rm_file(self, path: str) -> None:
        self._wait("rm_file")
        super().rm_file(path)

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            return super().open(path, mode, **options)
        self._wait("open")
        return _SlowFile(super().open(path, mode, **options).read(), self)


class _SlowFile(io.BytesIO):
    def __init__(self, data: bytes, system: SlowFileSystem) -> None:
        super().__init__(data)
        self._system = system

    def read(self, size: int | None = -1) -> bytes:
        self._system._wait("read")
        return super().read(size)


fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
