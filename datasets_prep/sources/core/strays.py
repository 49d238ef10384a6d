"""Stray files in columns, since a hundred million images may lie beside as many captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets_prep.samples.columns import Column, TextColumn, Texts
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.sources.core.source import Stray


class StrayColumn:
    """Stray files that are appended, then read as a sequence."""

    def __init__(self) -> None:
        self._keys = TextColumn()
        self._num_bytes, self._kinds = Column(np.int64), Column(np.int32)
        self._known: dict[tuple[str | None, str], int] = {}

    def append(self, stray: Stray) -> None:
        """Append one stray file."""
        self._keys.append(stray.key.encode("utf-8", "surrogatepass"))
        self._num_bytes.append(stray.num_bytes)
        self._kinds.append(self._known.setdefault((stray.split, stray.reason), len(self._known)))

    def strays(self) -> Sequence[Stray]:
        """Return all stray files."""
        return _Strays(self._keys.texts(), self._num_bytes.array(), self._kinds.array(), list(self._known))


class _Strays(LazySequence[Stray]):
    def __init__(
        self, keys: Texts, num_bytes: np.ndarray, kinds: np.ndarray, known: list[tuple[str | None, str]]
    ) -> None:
        self._keys, self._num_bytes, self._kinds, self._known = keys, num_bytes, kinds, known

    def __len__(self) -> int:
        return len(self._keys)

    def item(self, position: int) -> Stray:
        split, reason = self._known[self._kinds[position]]
        return Stray(split, self._keys[position], int(self._num_bytes[position]), reason)
