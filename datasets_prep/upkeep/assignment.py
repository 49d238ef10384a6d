"""Seeded random assignment of samples to splits, stratified by class, with groups kept together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walloc_cdl.canonical import sha256_hex


def seeded_hash(seed: int, name: str) -> int:
    """Return a 64-bit hash of seed and name, which depends on no library's random numbers."""
    return int(sha256_hex(f"{seed}:{name}".encode("utf-8", "replace"))[:16], 16)


def assign_stratified(hashes: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return the split number of each unit, int64 (N,): divides every class by `shares`, in the order of the hashes.

    `hashes`: uint64 (N,); `labels`: int64 (N,); `shares` add up to 1. The rounding error of a class is carried to the
    next, so that each class, and all together, are divided by the shares to within one unit (to within two if a carry
    meets a class of very few units).

    >>> np.bincount(assign_stratified(np.arange(10, dtype=np.uint64), np.zeros(10, np.int64), [0.8, 0.2]))
    array([8, 2])
    """
    splits = np.empty(len(hashes), np.int64)
    carry = np.zeros(len(shares))
    order = np.lexsort((hashes, labels))
    begins = np.flatnonzero(np.diff(labels[order], prepend=labels[order][:1] - 1)) if len(order) else []
    for members in np.split(order, begins[1:]):
        exact = len(members) * np.array(shares) + carry
        counts = _rounded(exact, len(members))
        carry = exact - counts
        splits[members] = np.repeat(np.arange(len(shares)), counts)
    return splits


def assign_groups(groups: np.ndarray, hashes: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return the split number of each sample, int64 (N,); samples with equal `groups`, uint64 (N,), stay together.

    A group counts as one unit of `assign_stratified`, with the hash and the label of its first sample.
    """
    _, firsts, member_of = np.unique(groups, return_index=True, return_inverse=True)
    return assign_stratified(hashes[firsts], labels[firsts], shares)[member_of]


def _rounded(exact: np.ndarray, total: int) -> np.ndarray:
    """Round to nonnegative integers, int64, that add up to `total`, by largest remainders."""
    counts = np.maximum(np.floor(exact), 0).astype(np.int64)
    while counts.sum() < total:
        counts[np.argmax(exact - counts)] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > 0, exact - counts, np.inf))] -= 1
    return counts
