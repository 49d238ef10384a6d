"""What every preparation is: images, arrays of many channels and audio behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from datasets_prep.samples.stored import Stored


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


def centered(length: int, multiple: int) -> slice:
    """The longest piece in the middle of `length` whose length is a multiple of `multiple`."""
    kept = length - length % multiple
    start = (length - kept) // 2
    return slice(start, start + kept)
