"""A preparation whose samples say how decoding them ends; a module of its own, since workers import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import BadSignalError


@dataclass(frozen=True)
class FragilePreparation(Preparation):
    """Digits become themselves."""

    kind: ClassVar[str] = "image"
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    memory_bytes: ClassVar[int | None] = 2**30

    @property
    def shape(self) -> tuple[int]:
        return (1,)

    def load(self, stored: bytes) -> np.ndarray:
        end = {
            b"abort": os.abort,
            b"bus": lambda: os.kill(os.getpid(), signal.SIGBUS),
            b"exit": lambda: os._exit(0),
            b"kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            b"sleep": lambda: time.sleep(1000),
            b"memory": lambda: np.ones(2**31, np.uint8),
            b"bug": lambda: 1 // 0,
            b"odd bug": _fail_oddly,
            b"bad": _refuse,
        }.get(stored)
        if end is not None:
            end()
        return np.array([int(stored)], np.uint8)

    def load_native(self, stored: bytes, multiple: int) -> np.ndarray:
        return self.load(stored)

    def to_json(self) -> dict[str, str]:
        return {"kind": "fragile"}


def _refuse() -> None:
    raise BadSignalError("as bad as it says")


class OddError(Exception):
    """Cannot be made again from its message alone, so pickle cannot bring it back."""

    def __init__(self, word: str, number: int) -> None:
        super().__init__(f"{word} {number}")


def _fail_oddly() -> None:
    raise OddError("stumbled", 7)


class Unloadable:
    """Can be sent to a worker, and not be made again there."""

    def __reduce__(self) -> tuple:
        return int, ("no number",)
