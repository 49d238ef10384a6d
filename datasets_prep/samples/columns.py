"""Columns of a listing, in memory while they are small, and in an unnamed temporary file when they become large.

The listing of 100 million samples thus takes disk space (in the folder for temporary files, `TMPDIR`), not memory. The
files hold plain values, because the batches of Arrow's IPC format cannot be mapped as one array.
"""

from __future__ import annotations

import tempfile
from typing import IO

import numpy as np

from datasets_prep.samples.lazy_sequence import LazySequence

SPILL_BYTES = 4 << 20
"""A larger column is moved to disk."""

CHUNK_ROWS = 1 << 12
"""Number of rows processed at a time by any loop over a listing."""


class Column:
    """Numbers of one type, which are appended, then read as an array."""

    def __init__(self, dtype: type | np.dtype) -> None:
        self._dtype = np.dtype(dtype)
        self._pending: list[float] = []
        self._parts: list[np.ndarray] = []
        self._unsaved_bytes = 0
        self._file: IO[bytes] | None = None
        self._length = 0

    def append(self, value: float) -> None:
        """Append one value."""
        self._pending.append(value)
        if len(self._pending) >= CHUNK_ROWS:
            self._flush()

    def extend(self, values: np.ndarray) -> None:
        """Append values."""
        self._flush()
        part = np.asarray(values, self._dtype)
        self._parts.append(part)
        self._length += len(part)
        self._unsaved_bytes += part.nbytes
        if self._unsaved_bytes >= SPILL_BYTES:
            self._spill()

    def array(self) -> np.ndarray:
        """Return all values: an ordinary array, or a memory map of the temporary file, which lives as long as it."""
        self._flush()
        if self._file is None:
            return np.concatenate([np.empty(0, self._dtype), *self._parts])
        self._spill()
        return np.memmap(self._file, self._dtype, "r+", shape=(self._length,))

    def _flush(self) -> None:
        if self._pending:
            values, self._pending = np.array(self._pending, self._dtype), []
            self.extend(values)

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="cdl-listing-")  # noqa: SIM115 - lives as long as the arrays
        for part in self._parts:
            self._file.write(part.tobytes())
        self._file.flush()
        self._parts, self._unsaved_bytes = [], 0


class Texts(LazySequence[str]):
    """Strings in one byte array. Bytes that are not UTF-8, which file names can contain, are escaped in the text."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray) -> None:
        """`data`: uint8; `offsets`: int64 (N + 1,), the start of each string, and the end of the last."""
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def item(self, position: int) -> str:
        """Return the string at a position."""
        return self.raw(position).decode("utf-8", "backslashreplace")

    def raw(self, position: int) -> bytes:
        """Return the stored bytes of the string at a position, 0 … len - 1."""
        return self._data[self._offsets[position] : self._offsets[position + 1]].tobytes()


class TextColumn:
    """Strings, which are appended, then read as a sequence."""

    def __init__(self) -> None:
        self._data = Column(np.uint8)
        self._offsets = Column(np.int64)
        self._offsets.append(0)
        self._end = 0
        self._pending: list[bytes] = []

    def append(self, text: bytes) -> None:
        """Append one string: UTF-8, or the bytes of a file name."""
        self._pending.append(text)
        if len(self._pending) >= CHUNK_ROWS:
            self._flush()

    def texts(self) -> Texts:
        """Return all strings."""
        self._flush()
        return Texts(self._data.array(), self._offsets.array())

    def _flush(self) -> None:
        if not self._pending:
            return
        ends = self._end + np.cumsum([len(text) for text in self._pending], dtype=np.int64)
        self._data.extend(np.frombuffer(b"".join(self._pending), np.uint8))
        self._offsets.extend(ends)
        self._end = int(ends[-1])
        self._pending = []


class RowNumbers(LazySequence[str]):
    """Row numbers as names for rows without names, with at least eight digits."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def item(self, position: int) -> str:
        """Return the number of a row."""
        return f"{position:08d}"
