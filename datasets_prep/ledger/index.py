"""An index of all samples in a ledger, stored or not: sorted arrays of 33 bytes per sample.

A sample is identified by 128 bits of a hash of its split and the SHA-256 of its key, since the ledger has no more than
that SHA-256 of dropped samples.

When a data set is extended, a source sample is known if the ledger has its split and key with its size. A stored
sample of another size is refused, since old shards do not change. A quarantined sample is always tried again, since the
ledger cannot tell a file that was repaired, or a URL whose server was down, from others; if it can be used, its row is
replaced. A sample omitted as a duplicate is tried again if its size has changed. Where sizes are unknown (0, for Python
data sets), changed content is not noticed. A sample of the same size that is known under another split only is not new:
otherwise a holdout drawn again from the grown source would put samples into `test` that were trained on. Samples that
are gone from the source stay; so do the ledger's labels, with a warning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from datasets_prep.ledger.table import DROPPED, DUPLICATE, hidden_key

STORED, UNUSABLE, OMITTED, REMOVED = range(4)
"""States: in a shard; quarantined, or a stray file; omitted as a duplicate; dropped on request."""

UNKNOWN = -1


class LedgerIndex:
    """Size, label and state of each sample of a ledger, sorted by hash.

    `parts` are the ledger's rows in any number of tables.
    """

    def __init__(self, parts: Iterable[pa.Table]) -> None:
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
        """Return the positions, int64 (M,), of samples by their hashes, uint64 (M, 2); `UNKNOWN` for unknown ones."""
        found = np.full(len(hashes), UNKNOWN, np.int64)
        positions = np.searchsorted(self._high, hashes[:, 0])
        pending = np.arange(len(hashes))
        while len(pending):  # repeated for each further entry with the same first half
            inside = positions[pending] < len(self)
            pending = pending[inside]
            pending = pending[self._high[positions[pending]] == hashes[pending, 0]]
            equal = self._low[positions[pending]] == hashes[pending, 1]
            found[pending[equal]] = positions[pending[equal]]
            pending = pending[~equal]
            positions[pending] += 1
        return found


def sample_hashes(split: str | None, keys: Sequence[str]) -> np.ndarray:
    """Return the hashes, uint64 (N, 2), of samples of one split; `split` is None outside of all splits."""
    return _hashes((split, hidden_key(key)) for key in keys)


def row_hashes(rows: pa.Table) -> np.ndarray:
    """Return the hashes, uint64 (N, 2), of a ledger's rows, which equal `sample_hashes`, even for dropped samples."""
    columns = (rows[name].to_pylist() for name in ("split", "key", "reason"))
    return _hashes(
        (split, key if reason == DROPPED else hidden_key(key)) for split, key, reason in zip(*columns, strict=True)
    )


def _hashes(names: Iterable[tuple[str | None, str]]) -> np.ndarray:
    """Return the hashes, uint64 (N, 2), of pairs of a split and a hidden key."""
    digests = (hashlib.sha256(f"{split or ''}/{key}".encode()).digest()[:16] for split, key in names)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64).reshape(-1, 2)


def _states(rows: pa.Table) -> np.ndarray:
    states = np.where(rows["shard"].is_null().to_numpy(), UNUSABLE, STORED).astype(np.uint8)
    reasons = rows["reason"].to_pylist()
    for reason, state in ((DUPLICATE, OMITTED), (DROPPED, REMOVED)):
        states[[each == reason for each in reasons]] = state
    return states
