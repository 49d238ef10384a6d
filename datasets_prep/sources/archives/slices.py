"""Samples that are files, or byte ranges of files, below one folder, in columns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from datasets_prep.samples.columns import Column, TextColumn, Texts
from datasets_prep.samples.stored import FileSlice
from datasets_prep.sources.core.source import SplitListing

WHOLE_FILE = -1
"""Offset that marks a sample that is a whole file."""


class SliceColumns:
    """Keys, locations and sizes of a split's samples, which are appended, then read."""

    def __init__(self) -> None:
        self._keys, self._paths = TextColumn(), TextColumn()
        self._offsets, self._num_bytes = Column(np.int64), Column(np.int64)
        self._closed: tuple[Texts, Texts, np.ndarray, np.ndarray] | None = None

    def append(self, key: bytes, path: bytes, num_bytes: int, offset: int = WHOLE_FILE) -> None:
        """Append one sample; `path` is the path of its file, relative to the folder."""
        self._keys.append(key)
        self._paths.append(path)
        self._offsets.append(offset)
        self._num_bytes.append(num_bytes)

    def stored(self, root: Path, index: int) -> Path | FileSlice:
        """Return the location of a sample."""
        _, paths, offsets, num_bytes = self._columns()
        path = root / os.fsdecode(paths.raw(index))
        offset = int(offsets[index])
        return path if offset == WHOLE_FILE else FileSlice(str(path), offset, int(num_bytes[index]))

    def listing(self, labels: np.ndarray) -> SplitListing:
        """Return the listing of the split."""
        keys, _, _, num_bytes = self._columns()
        return SplitListing(keys, labels, num_bytes)

    def _columns(self) -> tuple[Texts, Texts, np.ndarray, np.ndarray]:
        if self._closed is None:
            self._closed = (
                self._keys.texts(),
                self._paths.texts(),
                self._offsets.array(),
                self._num_bytes.array(),
            )
        return self._closed
