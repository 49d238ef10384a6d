"""Dealing samples out to splits: seeded, stratified by class, groups kept together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walloc_cdl.canonical import sha256_hex


def seeded_lot(seed: int, name: str) -> int:
    """64 bits that follow from seed and name, and from no library's random numbers."""
    return int(sha256_hex(f"{seed}:{name}".encode("utf-8", "replace"))[:16], 16)


def deal(lots: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The split of each unit, int64 (N,): of every class its shares, in the order of the lots.

    `lots` uint64 (N,) and `labels` int64 (N,); `shares` add up to 1. What rounding leaves over in one class is carried
    to the next, so each class, and all together, get their shares to within one unit (to within two where a carry
    meets a class of very few).

    >>> np.bincount(deal(np.arange(10, dtype=np.uint64), np.zeros(10, np.int64), [0.8, 0.2]))
    array([8, 2])
    """
    dealt = np.empty(len(lots), np.int64)
    carry = np.zeros(len(shares))
    order = np.lexsort((lots, labels))
    begins = np.flatnonzero(np.diff(labels[order], prepend=labels[order][:1] - 1)) if len(order) else []
    for members in np.split(order, begins[1:]):
        exact = len(members) * np.array(shares) + carry
        counts = _rounded(exact, len(members))
        carry = exact - counts
        dealt[members] = np.repeat(np.arange(len(shares)), counts)
    return dealt


def deal_groups(groups: np.ndarray, lots: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The same for samples of which those with the same number in `groups`, uint64 (N,), must not part.

    A group counts once, with the lot and the label of its first sample.
    """
    _, firsts, member_of = np.unique(groups, return_index=True, return_inverse=True)
    return deal(lots[firsts], labels[firsts], shares)[member_of]


def _rounded(exact: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers from 0 near `exact`, int64, that add up to `total`: largest remainders."""
    counts = np.maximum(np.floor(exact), 0).astype(np.int64)
    while counts.sum() < total:
        counts[np.argmax(exact - counts)] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > 0, exact - counts, np.inf))] -= 1
    return counts
