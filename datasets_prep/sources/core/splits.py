"""Subsets of a source: selected samples, and a split held out of another, which depends on keys alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.source import Source, SplitListing
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError


class SubsetSource(DerivedSource):
    """Splits made of selected samples of another source's splits."""

    def __init__(self, source: Source, rows: dict[str, tuple[str, np.ndarray]]) -> None:
        """`rows`: for each split of this source, the other source's split and int64 indices into it."""
        splits = {split: _subset(source.listing.splits[origin], indices) for split, (origin, indices) in rows.items()}
        super().__init__(source, replace(source.listing, splits=splits))
        self._rows = rows

    def read(self, split: str, index: int) -> Stored:
        """See `Source.read`."""
        origin, indices = self._rows[split]
        return self._source.read(origin, int(indices[index]))

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        origin, indices = self._rows[split]
        return self._source.references(origin, [int(indices[row]) for row in rows])


def holdout(source: Source, fraction: float, seed: int = 0, *, split: str = "train", into: str = "test") -> Source:
    """Move a fraction of `split` to a new split `into`, stratified by class; deterministic for given keys and seed.

    Each class contributes its share of round(fraction · N) samples, by largest remainders. Samples of one group move
    together, and N then counts groups.

    Raises `CallError` if there is no such split, if `into` exists, and if one side would be empty.
    """
    if split not in source.split_names:
        raise CallError(f"source {source.name} has no split {split!r}; it has {', '.join(source.split_names)}")
    if into in source.split_names:
        raise CallError(f"source {source.name} has a split {into!r} already; use it, or hold out into another")
    if not 0 < fraction < 1:
        raise CallError(
            f"holding out {fraction:g} of split {split!r}; expected a fraction above 0 and below 1, such as 0.2"
        )
    listing = source.listing.splits[split]
    names, labels, member_of = _units(listing)
    count = round(fraction * len(names))
    if not 0 < count < len(names):
        what = "samples" if listing.groups is None else "groups of samples that belong together"
        raise CallError(
            f"holding out {fraction:g} of {len(names)} {what} leaves one side empty; choose another fraction, or use "
            "more samples"
        )
    selected = np.zeros(len(names), bool)
    classes, members = np.unique(labels, return_counts=True)
    for label, share in zip(classes, shares(members, count), strict=True):
        indices = np.flatnonzero(labels == label)
        order = seeded_order([names[index] for index in indices], seed)
        selected[indices[order[:share]]] = True
    held_out = selected[member_of]
    rows: dict[str, tuple[str, np.ndarray]] = {}
    for name in source.split_names:
        rows[name] = (name, np.arange(source.num_samples(name)))
    rows[split] = (split, np.flatnonzero(~held_out))
    rows[into] = (split, np.flatnonzero(held_out))
    return SubsetSource(source, rows)


def seeded_order(keys: Sequence[str], seed: int) -> np.ndarray:
    """Return a permutation of the keys' indices, int64 (N,), that depends on no library's random numbers."""
    digests = [sha256_hex(f"{seed}:{key}".encode()) for key in keys]
    return np.array(sorted(range(len(keys)), key=digests.__getitem__), np.int64)


def _units(listing: SplitListing) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """Return the M units that move together: their names, labels int64 (M,), and each sample's unit, int64 (N,)."""
    # several labels per sample, or numbers, give no strata: the fraction then applies to all samples together
    labels = listing.labels if listing.labels.ndim == 1 else np.zeros(len(listing.labels), np.int64)
    if listing.groups is None:
        return listing.keys, labels, np.arange(len(listing.keys))
    names, first, member_of = np.unique(np.array(list(listing.groups), object), return_index=True, return_inverse=True)
    return names.tolist(), labels[first], member_of


def shares(members: np.ndarray, count: int) -> np.ndarray:
    """Distribute `count` in proportion to the sizes of classes, by largest remainders; int64."""
    exact = members * (count / members.sum())
    shares = np.floor(exact).astype(np.int64)
    extra = np.argsort(shares - exact, kind="stable")[: count - shares.sum()]
    shares[extra] += 1
    return shares


def _subset(listing: SplitListing, indices: np.ndarray) -> SplitListing:
    keys = [listing.keys[index] for index in indices]
    groups = None if listing.groups is None else [listing.groups[index] for index in indices]
    columns = None if listing.columns is None else listing.columns.take(indices)
    presence = None if listing.presence is None else listing.presence[indices]
    return SplitListing(keys, listing.labels[indices], listing.num_bytes[indices], groups, columns, presence)
