"""The windows of array files, each computed from its number: a header of 128 bytes can state any number of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS, Column
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.stored import ArrayWindow, BadSignalError
from datasets_prep.sources.core.source import SplitListing

Item = TypeVar("Item", covariant=True)

MAX_WINDOWS = 2**27
"""Limit for the number of windows of one file, each of which takes 16 bytes of a listing."""


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one size on a grid in each array of a file."""

    num_arrays: int
    height: int
    """Of a window, in pixels."""
    width: int
    rows: int = 1
    columns: int = 1
    hop: int = 1
    """Distance between adjacent windows, in pixels."""
    patches: bool = False
    """Whether windows are parts of their arrays, so that their keys have their positions."""

    def __len__(self) -> int:
        """Number of windows of the file."""
        return self.num_arrays * self.rows * self.columns

    @property
    def overlapping(self) -> bool:
        """Whether adjacent windows have pixels in common."""
        return self.patches and self.hop < self.height

    def require_listable(self) -> None:
        """Raise `BadSignalError` if there are more than `MAX_WINDOWS`."""
        if (count := self.num_arrays * self.rows * self.columns) > MAX_WINDOWS:
            raise BadSignalError(f"{count:,} arrays or patches, more than {MAX_WINDOWS:,}; split the file")

    def rectangle(self, number: int) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the window at a position of the grid, counted by rows."""
        row, column = divmod(number, self.columns)
        return row * self.hop, column * self.hop, self.height, self.width


@dataclass(frozen=True)
class FileWindows:
    """The windows of one file, array by array; a single sample if the file cannot be read."""

    path: Path
    key: str
    label: int
    num_bytes: int
    """Of each window, or of a file that cannot be read."""
    grid: WindowGrid | None

    def __len__(self) -> int:
        return 1 if self.grid is None else len(self.grid)

    def window(self, number: int) -> ArrayWindow:
        """Return the location of a window."""
        if self.grid is None:
            return ArrayWindow(self.path, 0, None)
        index, position = divmod(number, self.grid.rows * self.grid.columns)
        return ArrayWindow(self.path, index, self.grid.rectangle(position))

    def window_key(self, number: int) -> str:
        """Return the key of a window, `FILE[#INDEX][@TOP,LEFT]`."""
        window = self.window(number)
        if self.grid is None or window.rectangle is None or not self.grid.patches:
            return self.array_key(number)
        top, left, *_ = window.rectangle
        return f"{self.array_key(number)}@{top},{left}"

    def array_key(self, number: int) -> str:
        """Return the key of the array that a window is a part of, `FILE[#INDEX]`."""
        if self.grid is None or self.grid.num_arrays == 1:
            return self.key
        return f"{self.key}#{self.window(number).index:05d}"

    def group(self, number: int) -> str:
        """Return the group of a window: its array, if windows overlap."""
        return self.array_key(number) if self.grid is not None and self.grid.overlapping else self.window_key(number)


class SplitWindows:
    """The windows of the files of a split, in order."""

    def __init__(self, files: Sequence[FileWindows]) -> None:
        self.files = list(files)
        self._ends = np.cumsum([0, *map(len, self.files)])[1:]
        self.windows: Sequence[ArrayWindow] = _Computed(self, FileWindows.window)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.files else 0

    def locate(self, position: int) -> tuple[FileWindows, int]:
        """Return the file of a window, and its number within the file."""
        number = int(np.searchsorted(self._ends, position, side="right"))
        file = self.files[number]
        return file, position - int(self._ends[number]) + len(file)

    def listing(self) -> SplitListing:
        """Return keys, labels, sizes and groups of the windows."""
        labels, num_bytes = Column(np.int64), Column(np.int64)
        for file in self.files:
            for start in range(0, len(file), CHUNK_ROWS):
                count = min(CHUNK_ROWS, len(file) - start)
                labels.extend(np.full(count, file.label))
                num_bytes.extend(np.full(count, file.num_bytes))
        grouped = any(file.grid is not None and file.grid.overlapping for file in self.files)
        return SplitListing(
            keys=_Computed(self, FileWindows.window_key),
            labels=labels.array(),
            num_bytes=num_bytes.array(),
            groups=_Computed(self, FileWindows.group) if grouped else None,
        )


class _Computed(LazySequence[Item]):
    """What a function gives for each window."""

    def __init__(self, windows: SplitWindows, compute: Callable[[FileWindows, int], Item]) -> None:
        self._windows, self._compute = windows, compute

    def __len__(self) -> int:
        return len(self._windows)

    def item(self, position: int) -> Item:
        return self._compute(*self._windows.locate(position))
