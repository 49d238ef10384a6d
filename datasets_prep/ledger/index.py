"""The samples that a data set knows, stored or not: its ledger as sorted arrays, 33 bytes a sample.

A sample is told by 128 bits of a hash of its split and key. The ledger has dropped samples by the SHA-256 of their
keys alone, so that is what is hashed for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from datasets_prep.ledger.table import DROPPED, hidden_key

STORED, NOT_STORED, REMOVED = range(3)
"""States: in a shard; quarantined, left out as a duplicate or a stray; dropped on request."""

UNKNOWN = -1


class LedgerIndex:
    """What a ledger says of each sample; positions are in the order of the hashes."""

    def __init__(self, parts: Iterable[pa.Table]) -> None:
        """`parts`: the ledger's rows, some at a time."""
        columns = [
            (row_hashes(rows), *(rows[name].to_numpy() for name in ("num_bytes", "label")), _states(rows))
            for rows in parts
        ]
        columns.append((np.empty((0, 2), np.uint64), *np.empty((2, 0), np.int64), np.empty(0, np.uint8)))
        hashes, num_bytes, labels, states = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        self._high, self._low = hashes[order, 0], hashes[order, 1]
        self.num_bytes = num_bytes[order]
        """int64 (N,)."""
        self.labels = labels[order]
        """int64 (N,), class numbers."""
        self.states = states[order]
        """uint8 (N,)."""

    def __len__(self) -> int:
        return len(self.states)

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Positions, int64 (M,), of the samples with these hashes, uint64 (M, 2); `UNKNOWN` where there is none."""
        found = np.full(len(hashes), UNKNOWN, np.int64)
        positions = np.searchsorted(self._high, hashes[:, 0])
        open_rows = np.arange(len(hashes))
        while len(open_rows):  # once more for each further entry with the same first half
            inside = positions[open_rows] < len(self)
            open_rows = open_rows[inside]
            open_rows = open_rows[self._high[positions[open_rows]] == hashes[open_rows, 0]]
            equal = self._low[positions[open_rows]] == hashes[open_rows, 1]
            found[open_rows[equal]] = positions[open_rows[equal]]
            open_rows = open_rows[~equal]
            positions[open_rows] += 1
        return found


def sample_hashes(split: str | None, keys: Sequence[str]) -> np.ndarray:
    """uint64 (N, 2) of samples of one split; None for what lies outside of every split."""
    return _hashes((split, hidden_key(key)) for key in keys)


def row_hashes(rows: pa.Table) -> np.ndarray:
    """uint64 (N, 2) of rows of a ledger: those of `sample_hashes`, of dropped samples, too."""
    columns = (rows[name].to_pylist() for name in ("split", "key", "reason"))
    return _hashes(
        (split, key if reason == DROPPED else hidden_key(key)) for split, key, reason in zip(*columns, strict=True)
    )


def _hashes(names: Iterable[tuple[str | None, str]]) -> np.ndarray:
    """Of splits and hidden keys."""
    digests = (hashlib.sha256(f"{split or ''}/{key}".encode()).digest()[:16] for split, key in names)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64).reshape(-1, 2)


def _states(rows: pa.Table) -> np.ndarray:
    states = np.where(rows["shard"].is_null().to_numpy(), NOT_STORED, STORED).astype(np.uint8)
    states[[reason == DROPPED for reason in rows["reason"].to_pylist()]] = REMOVED
    return states
