"""What every preparation is: images, arrays of many channels and audio behind one interface."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from walloc_cdl.errors import DamagedError


class BadSignalError(DamagedError):
    """This one sample cannot be used. The message is the ledger's reason: the same on every machine, without paths."""


@dataclass(frozen=True)
class ArrayWindow:
    """A stored sample that is a rectangle of one array of a file, which may hold many."""

    path: os.PathLike[str]
    index: int
    """Along the file's axis N; 0 without one."""
    rectangle: tuple[int, int, int, int] | None
    """(top, left, height, width); None for the whole array, whatever its size."""


@dataclass(frozen=True)
class AudioSegment:
    """A stored sample that is a piece of a clip."""

    path: os.PathLike[str]
    start: int
    """First sample, counted at the preparation's sample rate."""


@dataclass(frozen=True)
class FileSlice:
    """A stored sample that is a range of the bytes of a file, as a member of a tar, or a file at a URL."""

    path: str
    """A path, or a URL of a scheme that fsspec knows."""
    offset: int = 0
    num_bytes: int | None = None
    """None for all that follows `offset`."""


@dataclass(frozen=True)
class KeyedSample:
    """A stored sample with its name in the source, which seeds what is drawn for it."""

    key: str
    stored: bytes | os.PathLike[str] | FileSlice


Stored = bytes | os.PathLike[str] | FileSlice | ArrayWindow | AudioSegment | KeyedSample
"""How a source hands over a sample: the encoded file, its path, or where in a file it lies."""


class Preparation(ABC):
    """Turns a stored sample into the codec's input, of one shape unless `ragged`. Small and picklable: workers get a
    copy.
    """

    kind: str
    """What it makes of what: `image`, `array` or `audio`; sources have the same."""
    dtype: np.dtype
    """uint8 pixels, or float32 in [-0.5, 0.5]."""
    packages: tuple[str, ...]
    """Packages whose version decides the bytes, besides torch."""
    memory_bytes: ClassVar[int | None] = None
    """What a worker may take for decoding; a sample that needs more is bad. None sets no limit."""
    view_names: tuple[str, ...] = ()
    """Names of the variants that `load` makes of each sample, the evaluation crop first; () for a single one."""
    ragged: bool = False
    """Whether samples keep their own size."""
    chunk_samples: int = 16
    """For each task of a worker: enough that sending it costs little, few enough that all workers stay busy."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) or (C, T) of every prepared sample, of each view; of ragged ones what a plan reckons with."""

    @abstractmethod
    def load(self, stored: Stored) -> np.ndarray:
        """The codec's input, `dtype` of `shape`, with V in front where there are views.

        Raises `BadSignalError` for a sample that cannot be used.
        """

    def evaluation_signals(self, signals: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Of what `load` made of some samples, as workers hand it over, one signal each, (N, C, …) of one size."""
        return np.asarray(signals)

    @abstractmethod
    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """The signal at its own size, cut so that all but the channels are multiples of `multiple`.

        Raises `BadSignalError` for a sample that cannot be used or is smaller than that.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All that decides what `load` gives, as plain values for plan and manifest."""

    def versions(self) -> dict[str, str]:
        """The installed versions of `packages` and torch."""
        return {name: version(name) for name in sorted((*self.packages, "torch"))}


def failure_reason(error: Exception) -> str:
    """The ledger's words for whatever a decoder raised on a broken file."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # str(error) would carry the path
    text = " ".join(str(error).split())
    return f"cannot be decoded: {text[:200] or type(error).__name__}"


def centered(length: int, multiple: int) -> slice:
    """The longest piece in the middle of `length` whose length is a multiple of `multiple`."""
    kept = length - length % multiple
    start = (length - kept) // 2
    return slice(start, start + kept)
