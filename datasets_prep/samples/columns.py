"""Columns of a listing: in memory while they are small, in an unnamed temporary file once they are not.

So the listing of 100 million samples takes disk (in the folder for temporary files, `TMPDIR`), not memory. Plain
values rather than Arrow's IPC format, whose batches cannot be mapped as one array.
"""

from __future__ import annotations

import tempfile
from typing import IO

import numpy as np

from datasets_prep.samples.lazy_sequence import LazySequence

SPILL_BYTES = 4 << 20
"""A column that is larger goes to disk."""

CHUNK_ROWS = 1 << 12
"""Rows at a time, wherever a listing is gone through."""


class Column:
    """Numbers of one type, appended to, then read as an array."""

    def __init__(self, dtype: type | np.dtype) -> None:
        self._dtype = np.dtype(dtype)
        self._pending: list[float] = []
        self._parts: list[np.ndarray] = []
        self._waiting = 0
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
        self._waiting += part.nbytes
        if self._waiting >= SPILL_BYTES:
            self._spill()

    def array(self) -> np.ndarray:
        """All values: an ordinary array, or a map of the temporary file, which is gone with it."""
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
        self._parts, self._waiting = [], 0


class Texts(LazySequence[str]):
    """Strings, stored one after the other as bytes: a file name may be no UTF-8, its text then has escapes."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray) -> None:
        """`data` uint8, `offsets` int64 (N + 1,): where each begins, and the end of the last."""
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def item(self, position: int) -> str:
        """The text at a position."""
        return _text(self.raw(position))

    def raw(self, position: int) -> bytes:
        """The stored bytes of one text, 0 … len - 1."""
        return self._data[self._offsets[position] : self._offsets[position + 1]].tobytes()


class TextColumn:
    """Texts, appended to, then read as a sequence."""

    def __init__(self) -> None:
        self._data = Column(np.uint8)
        self._offsets = Column(np.int64)
        self._offsets.append(0)
        self._end = 0
        self._pending: list[bytes] = []

    def append(self, text: bytes) -> None:
        """Append one text: UTF-8, or the bytes of a file name."""
        self._pending.append(text)
        if len(self._pending) >= CHUNK_ROWS:
            self._flush()

    def texts(self) -> Texts:
        """All of them."""
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
    """Names of rows that have none: their numbers, with eight digits and more."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def item(self, position: int) -> str:
        """The number of a row."""
        return f"{position:08d}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
