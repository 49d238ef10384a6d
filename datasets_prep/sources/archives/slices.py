"""Samples that are files or pieces of files below one folder, in columns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from datasets_prep.samples.columns import Column, TextColumn, Texts
from datasets_prep.samples.stored import FileSlice
from datasets_prep.sources.core.source import SplitListing

WHOLE = -1
"""Offset of a sample that is a file of its own."""


class SliceColumns:
    """Keys, places and sizes of a split's samples, appended to, then read."""

    def __init__(self) -> None:
        self._keys, self._places = TextColumn(), TextColumn()
        self._offsets, self._num_bytes = Column(np.int64), Column(np.int64)
        self._closed: tuple[Texts, Texts, np.ndarray, np.ndarray] | None = None

    def append(self, key: bytes, place: bytes, num_bytes: int, offset: int = WHOLE) -> None:
        """One sample; `place` is its file's path below the folder."""
        self._keys.append(key)
        self._places.append(place)
        self._offsets.append(offset)
        self._num_bytes.append(num_bytes)

    def stored(self, root: Path, index: int) -> Path | FileSlice:
        """Where a sample lies."""
        _, places, offsets, num_bytes = self._columns()
        path = root / os.fsdecode(places.raw(index))
        offset = int(offsets[index])
        return path if offset == WHOLE else FileSlice(str(path), offset, int(num_bytes[index]))

    def listing(self, labels: np.ndarray) -> SplitListing:
        """The listing of the split."""
        keys, _, _, num_bytes = self._columns()
        return SplitListing(keys, labels, num_bytes)

    def _columns(self) -> tuple[Texts, Texts, np.ndarray, np.ndarray]:
        if self._closed is None:
            self._closed = (
                self._keys.texts(),
                self._places.texts(),
                self._offsets.array(),
                self._num_bytes.array(),
            )
        return self._closed
