"""The interface of preparations, which turn images, arrays of many channels and audio into a codec's input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from datasets_prep.samples.stored import Stored


class Preparation(ABC):
    """Turns a stored sample into the codec's input, of one shape unless `ragged`.

    Preparations are small and picklable, since each worker gets a copy.
    """

    kind: str
    """The kind of signal: `image`, `array` or `audio`, as of sources."""
    dtype: np.dtype
    """The type of the signals: uint8 pixels, or float32 in [-0.5, 0.5]."""
    packages: tuple[str, ...]
    """Packages whose versions determine the bytes, besides torch."""
    memory_bytes: ClassVar[int | None] = None
    """Limit for a worker's memory while it decodes; a sample that needs more is unusable. None sets no limit."""
    view_names: tuple[str, ...] = ()
    """Names of the views that `load` makes of each sample, the evaluation crop first; () for a single signal."""
    ragged: bool = False
    """Whether samples keep their own size."""
    chunk_samples: int = 16
    """Samples in each task of a worker: enough to make sending cheap, few enough to keep all workers busy."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) or (C, T) of each view of every prepared sample; the shape that a plan assumes if ragged."""

    @abstractmethod
    def load(self, stored: Stored) -> np.ndarray:
        """Return the codec's input, of `dtype` and `shape`, with a leading axis V if there are views.

        Raises `BadSignalError` for a sample that cannot be used.
        """

    def load_code(self) -> None:  # noqa: B027 - most have nothing to load
        """Import what `load` imports when it is first called. Workers do this before their time limits begin."""

    def evaluation_signals(self, signals: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Return one signal of each sample, (N, C, …) of one size, from a chunk's signals as `load` made them."""
        return np.asarray(signals)

    @abstractmethod
    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """Return the signal at its own size, cropped to multiples of `multiple` in all axes except the channels.

        Raises `BadSignalError` for a sample that cannot be used or is smaller than that.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return everything that determines the result of `load`, as plain values for plan and manifest."""

    def versions(self) -> dict[str, str]:
        """Return the installed versions of `packages` and torch."""
        return {name: version(name) for name in sorted((*self.packages, "torch"))}


def centered(length: int, multiple: int) -> slice:
    """Return the longest central slice of `length` whose length is a multiple of `multiple`."""
    size = length - length % multiple
    start = (length - size) // 2
    return slice(start, start + size)
