"""Compares a source with a data set that was prepared from it, and gives the new samples as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datasets_prep.encode.sample_layout import label_names, label_spec
from datasets_prep.ledger.index import OMITTED, REMOVED, STORED, UNKNOWN, UNUSABLE, LedgerIndex, sample_hashes
from datasets_prep.samples.columns import CHUNK_ROWS
from datasets_prep.sources.core.source import CLASSES, MULTI_LABEL, Presence, Source, SplitListing, Stray
from datasets_prep.sources.core.splits import SubsetSource
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL, Manifest


@dataclass
class SourceDiff:
    """The difference between the samples of a source and the ledger of a data set."""

    rows: dict[str, np.ndarray]
    """For each split, int64: indices of the samples to encode, in the source's order."""
    retried: np.ndarray
    """bool, by position in `LedgerIndex`: samples that are not stored, to be tried again."""
    seen: np.ndarray
    """bool, by position in `LedgerIndex`: samples that the source still has."""
    retried_rows: dict[str, np.ndarray] = field(default_factory=dict)
    """For each split, int64: those of `rows` that are tried again."""
    num_moved: int = 0
    """Number of samples that the data set has in another split; they stay there."""
    num_relabeled: int = 0
    """Number of stored samples whose label has changed; they keep the old one."""
    num_changed: int = 0
    """Number of stored samples whose size has changed."""
    first_changed: str = ""
    """SPLIT/KEY of the first sample whose size has changed, with both sizes."""
    strays: list[Stray] = field(default_factory=list)
    """Stray files that the ledger does not have."""

    @property
    def num_new(self) -> int:
        """Number of samples to encode that the data set does not know."""
        return sum(map(len, self.rows.values())) - self.num_retried

    @property
    def num_retried(self) -> int:
        """Number of samples to encode that could not be used before."""
        return sum(map(len, self.retried_rows.values()))

    def only_retried(self) -> SourceDiff:
        """Return the difference without the samples that the data set does not know."""
        return replace(self, rows=self.retried_rows, strays=[])


def diff_source(source: Source, known: LedgerIndex, manifest: Manifest) -> SourceDiff:
    """Compare a source with the ledger of a data set.

    A sample that the ledger has only in another split, with the same size, is not new: a different holdout or a user
    moved it. A sample that was dropped is not new in any split.
    """
    diff = SourceDiff({}, np.zeros(len(known), bool), np.zeros(len(known), bool))
    numbers = class_numbers(source, manifest) if source.listing.label_kind == CLASSES else None
    for split in source.split_names:
        diff.rows[split] = _unknown_rows(source, split, numbers, known, diff)
    for split, rows in diff.rows.items():
        others = [other for other in manifest.splits if other != split]
        diff.rows[split] = _without_moved(source, split, rows, others, known, diff)
    for part in _chunks(source.strays):
        for stray in part:
            (position,) = known.find(sample_hashes(stray.split, [stray.key]))
            if position == UNKNOWN:
                diff.strays.append(stray)
    return diff


def known_rows(source: Source, known: LedgerIndex, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return which samples of the source are in the ledger, bool (N,) for each split: in it, or moved to another."""
    found = {split: np.zeros(source.num_samples(split), bool) for split in source.split_names}
    for split, listing in source.listing.splits.items():
        for start in range(0, len(listing.keys), CHUNK_ROWS):
            keys, sizes = listing.keys[start : start + CHUNK_ROWS], listing.num_bytes[start : start + CHUNK_ROWS]
            chunk = found[split][start : start + CHUNK_ROWS]
            chunk |= known.find(sample_hashes(split, keys)) != UNKNOWN
            for other in manifest.splits:
                positions = known.find(sample_hashes(other, keys)) if other != split else np.full(len(keys), UNKNOWN)
                candidates = np.flatnonzero(positions != UNKNOWN)
                entries = positions[candidates]
                same = (known.states[entries] == REMOVED) | (known.num_bytes[entries] == np.asarray(sizes)[candidates])
                chunk[candidates[same]] = True
    return found


def _unknown_rows(
    source: Source, split: str, numbers: np.ndarray | None, known: LedgerIndex, diff: SourceDiff
) -> np.ndarray:
    """Return the rows of samples that the ledger does not have or that are tried again; records the rest in `diff`."""
    listing, found = source.listing.splits[split], [np.empty(0, np.int64)]
    retried = [np.empty(0, np.int64)]
    for start in range(0, len(listing.keys), CHUNK_ROWS):
        keys = listing.keys[start : start + CHUNK_ROWS]
        sizes = np.asarray(listing.num_bytes[start : start + CHUNK_ROWS])
        positions = known.find(sample_hashes(split, keys))
        is_new, is_known = positions == UNKNOWN, positions != UNKNOWN
        diff.seen[positions[is_known]] = True
        size_differs = np.zeros(len(keys), bool)
        size_differs[is_known] = known.num_bytes[positions[is_known]] != sizes[is_known]
        states = np.where(is_known, known.states[positions] if len(known) else 0, REMOVED)
        is_retried = (states == UNUSABLE) | (size_differs & (states == OMITTED))
        diff.retried[positions[is_retried]] = True
        stored = is_known & (states == STORED)
        changed = np.flatnonzero(size_differs & stored)
        if len(changed) and not diff.num_changed:
            row, before = changed[0], known.num_bytes[positions[changed[0]]]
            diff.first_changed = f"{split}/{keys[row]} ({before:,} bytes in the data set, {sizes[row]:,} now)"
        diff.num_changed += len(changed)
        if numbers is not None:
            labels = numbers[listing.labels[start : start + CHUNK_ROWS]]
            diff.num_relabeled += int((labels[stored] != known.labels[positions[stored]]).sum())
        found.append(start + np.flatnonzero(is_new | is_retried))
        retried.append(start + np.flatnonzero(is_retried))
    diff.retried_rows[split] = np.concatenate(retried)
    return np.concatenate(found)


def _without_moved(
    source: Source, split: str, rows: np.ndarray, others: Sequence[str], known: LedgerIndex, diff: SourceDiff
) -> np.ndarray:
    listing, remaining = source.listing.splits[split], [np.empty(0, np.int64)]
    for part in _chunks(rows):
        keys, sizes = [listing.keys[row] for row in part], np.asarray(listing.num_bytes)[part]
        moved = np.zeros(len(part), bool)
        is_new = known.find(sample_hashes(split, keys)) == UNKNOWN  # samples that are tried again stay in their split
        for other in others:
            positions = known.find(sample_hashes(other, keys))
            candidates = np.flatnonzero(is_new & (positions != UNKNOWN))
            entries = positions[candidates]
            same = (known.states[entries] == REMOVED) | (known.num_bytes[entries] == sizes[candidates])
            same &= ~diff.seen[entries]
            moved[candidates[same]] = True
            diff.seen[entries[same]] = True
        diff.num_moved += int(moved.sum())
        remaining.append(part[~moved])
    return np.concatenate(remaining)


def _chunks(rows: Any) -> Iterator[Any]:
    """Divide a sequence or array into slices."""
    return (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))


class NewSamplesSource(SubsetSource):
    """Rows of a source with the class numbers of a data set: the data set's classes come first, then the new ones."""

    def __init__(
        self,
        source: Source,
        manifest: Manifest,
        rows: dict[str, np.ndarray],
        retried: dict[str, np.ndarray] | None = None,
    ) -> None:
        """`rows`: for each split, int64; `retried`: those of them that could not be used before. Call
        `require_same_labels` before.
        """
        super().__init__(source, {split: (split, selected) for split, selected in rows.items()})
        if retried is not None:
            known = {
                split: _presence(part, np.isin(rows[split], retried[split]))
                for split, part in self.listing.splits.items()
            }
            self.listing = replace(self.listing, splits=known)
        listing = self.listing
        names = extended_names(source, manifest)
        if names != listing.class_names:
            numbers, kind = class_numbers(source, manifest), listing.label_kind
            splits = {
                split: _relabeled(part, numbers, len(names or []), kind) for split, part in listing.splits.items()
            }
            self.listing = replace(listing, splits=splits, class_names=names)


def _presence(listing: SplitListing, retried: np.ndarray) -> SplitListing:
    """Return the listing with the presence of samples that are tried again; `retried`: bool (N,)."""
    presence = listing.presence
    if presence is None:
        presence = np.where(listing.num_bytes > 0, Presence.FOUND, Presence.UNKNOWN).astype(np.uint8)
    return replace(listing, presence=np.where(retried, np.uint8(Presence.UNUSABLE), presence))


def extended_names(source: Source, manifest: Manifest) -> list[str] | None:
    """Return the data set's class names, then the source's other ones in its order; for targets, the source's names."""
    if source.listing.label_kind not in (CLASSES, MULTI_LABEL):
        return source.class_names
    known = manifest.class_names or []
    return [*known, *_new_names(source.class_names or [], known)] or None


def class_numbers(source: Source, manifest: Manifest) -> np.ndarray:
    """Map the source's class numbers to those of the extended data set, int64 (classes + 1,).

    The last entry is `UNKNOWN_LABEL`, for samples without a label.
    """
    numbers = {name: number for number, name in enumerate(extended_names(source, manifest) or [])}
    return np.array([*(numbers[name] for name in source.class_names or []), UNKNOWN_LABEL], np.int64)


def _new_names(names: Sequence[str], known: Sequence[str]) -> list[str]:
    known_names = set(known)
    return [name for name in names if name not in known_names]


def require_same_labels(source: Source, manifest: Manifest) -> None:
    """Raise `CallError` for labels that the data set cannot hold."""
    kind = label_spec(source).kind
    if kind != manifest.label_kind:
        raise CallError(
            f"the labels of {source.name} are of kind {kind!r}, those of the data set of kind {manifest.label_kind!r}; "
            "give the source with the options that the data set was made with"
        )
    targets = label_names(source)["target_names"]
    if targets != manifest.target_names:
        raise CallError(
            f"the targets of {source.name} are {targets}, those of the data set {manifest.target_names}; give the "
            "source with the options that the data set was made with"
        )
    new = _new_names(source.class_names or [], manifest.class_names or [])
    if kind == MULTI_LABEL and new:
        raise CallError(
            f"{source.name} has the new class {new[0]!r}, but a data set with multiple classes per sample stores a "
            f"column for each of its {len(manifest.class_names or [])} classes; prepare it anew in another folder"
        )


def _relabeled(listing: SplitListing, numbers: np.ndarray, num_classes: int, kind: str | None) -> SplitListing:
    """Return the listing with new class numbers; `numbers` is the result of `class_numbers`."""
    if kind != MULTI_LABEL:
        return replace(listing, labels=numbers[listing.labels])
    labels = np.zeros((len(listing.keys), num_classes), np.uint8)
    labels[:, numbers[:-1]] = listing.labels
    return replace(listing, labels=labels)
