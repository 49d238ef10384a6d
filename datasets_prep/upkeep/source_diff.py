"""Finds the samples of a source that a data set does not have, and provides them as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datasets_prep.encode.sample_layout import label_names, label_spec
from datasets_prep.ledger.index import NOT_STORED, REMOVED, STORED, UNKNOWN, LedgerIndex, sample_hashes
from datasets_prep.samples.columns import CHUNK_ROWS
from datasets_prep.sources.core.source import CLASSES, MULTI_LABEL, Source, SplitListing, Stray
from datasets_prep.sources.core.splits import SubsetSource
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL, Manifest


@dataclass
class SourceDiff:
    """The differences between the samples of a source and a data set's ledger."""

    rows: dict[str, np.ndarray]
    """By split, the indices (int64) of the samples to encode, in the source's order."""
    retried: np.ndarray
    """bool, by position in `LedgerIndex`: samples that are not stored and whose size has changed, so that they are
    encoded again."""
    seen: np.ndarray
    """bool, by position in `LedgerIndex`: samples that the source still has."""
    num_moved: int = 0
    """Number of samples that the data set has in another split; they stay there."""
    num_relabeled: int = 0
    """Number of stored samples whose label has changed; they keep the old label."""
    num_changed: int = 0
    """Number of stored samples whose size has changed."""
    first_changed: str = ""
    """SPLIT/KEY of the first changed sample, with both sizes in bytes."""
    strays: list[Stray] = field(default_factory=list)
    """Stray files that the ledger does not have."""

    @property
    def num_new(self) -> int:
        """Number of samples to encode."""
        return sum(map(len, self.rows.values()))


def diff_source(source: Source, known: LedgerIndex, manifest: Manifest) -> SourceDiff:
    """Compare a source with a data set's ledger.

    A sample that the ledger has in another split only, with the same size, was held out by another draw or moved by the
    user, and is not new. A dropped sample is not new in any split.
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


def _unknown_rows(
    source: Source, split: str, numbers: np.ndarray | None, known: LedgerIndex, diff: SourceDiff
) -> np.ndarray:
    """Return the rows of samples that the ledger does not have, or that are tried again; updates `diff`."""
    listing, found = source.listing.splits[split], [np.empty(0, np.int64)]
    for start in range(0, len(listing.keys), CHUNK_ROWS):
        keys = listing.keys[start : start + CHUNK_ROWS]
        sizes = np.asarray(listing.num_bytes[start : start + CHUNK_ROWS])
        positions = known.find(sample_hashes(split, keys))
        new, listed = positions == UNKNOWN, positions != UNKNOWN
        diff.seen[positions[listed]] = True
        other_size = np.zeros(len(keys), bool)
        other_size[listed] = known.num_bytes[positions[listed]] != sizes[listed]
        states = np.where(listed, known.states[positions] if len(known) else 0, REMOVED)
        again = other_size & (states == NOT_STORED)
        diff.retried[positions[again]] = True
        stored = listed & (states == STORED)
        changed = np.flatnonzero(other_size & stored)
        if len(changed) and not diff.num_changed:
            row, before = changed[0], known.num_bytes[positions[changed[0]]]
            diff.first_changed = f"{split}/{keys[row]} ({before:,} bytes in the data set, {sizes[row]:,} now)"
        diff.num_changed += len(changed)
        if numbers is not None:
            labels = numbers[listing.labels[start : start + CHUNK_ROWS]]
            diff.num_relabeled += int((labels[stored] != known.labels[positions[stored]]).sum())
        found.append(start + np.flatnonzero(new | again))
    return np.concatenate(found)


def _without_moved(
    source: Source, split: str, rows: np.ndarray, others: Sequence[str], known: LedgerIndex, diff: SourceDiff
) -> np.ndarray:
    listing, kept = source.listing.splits[split], [np.empty(0, np.int64)]
    for part in _chunks(rows):
        keys, sizes = [listing.keys[row] for row in part], np.asarray(listing.num_bytes)[part]
        moved = np.zeros(len(part), bool)
        new = known.find(sample_hashes(split, keys)) == UNKNOWN  # samples that are tried again stay in their split
        for other in others:
            positions = known.find(sample_hashes(other, keys))
            rows_found = np.flatnonzero(new & (positions != UNKNOWN))
            found = positions[rows_found]
            same = (known.states[found] == REMOVED) | (known.num_bytes[found] == sizes[rows_found])
            same &= ~diff.seen[found]
            moved[rows_found[same]] = True
            diff.seen[found[same]] = True
        diff.num_moved += int(moved.sum())
        kept.append(part[~moved])
    return np.concatenate(kept)


def _chunks(rows: Any) -> Iterator[Any]:
    """Yield slices of `CHUNK_ROWS` elements of a sequence or array."""
    return (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))


class NewSamplesSource(SubsetSource):
    """Rows of a source with the labels of a data set: its classes, followed by new classes."""

    def __init__(self, source: Source, manifest: Manifest, rows: dict[str, np.ndarray]) -> None:
        """`rows`: the indices by split, int64. `require_same_labels` must have been called before."""
        super().__init__(source, {split: (split, indices) for split, indices in rows.items()})
        listing = self.listing
        names = extended_names(source, manifest)
        if names != listing.class_names:
            numbers, kind = class_numbers(source, manifest), listing.label_kind
            splits = {
                split: _relabeled(part, numbers, len(names or []), kind) for split, part in listing.splits.items()
            }
            self.listing = replace(listing, splits=splits, class_names=names)


def extended_names(source: Source, manifest: Manifest) -> list[str] | None:
    """Return the data set's class names, followed by the source's new ones; the source's names if it has targets."""
    if source.listing.label_kind not in (CLASSES, MULTI_LABEL):
        return source.class_names
    known = manifest.class_names or []
    return [*known, *_not_among(source.class_names or [], known)] or None


def class_numbers(source: Source, manifest: Manifest) -> np.ndarray:
    """Return the number of each of the source's classes in the extended data set, int64 (classes + 1,).

    The last element is the number of unknown labels.
    """
    numbers = {name: number for number, name in enumerate(extended_names(source, manifest) or [])}
    return np.array([*(numbers[name] for name in source.class_names or []), UNKNOWN_LABEL], np.int64)


def _not_among(names: Sequence[str], known: Sequence[str]) -> list[str]:
    known_names = set(known)
    return [name for name in names if name not in known_names]


def require_same_labels(source: Source, manifest: Manifest) -> None:
    """Raise `CallError` for labels that the data set cannot hold."""
    kind = label_spec(source).kind
    if kind != manifest.label_kind:
        raise CallError(
            f"the labels of {source.name} are of kind {kind!r}, those of the data set of kind {manifest.label_kind!r}; "
            "give the source that the data set was made from"
        )
    targets = label_names(source)["target_names"]
    if targets != manifest.target_names:
        raise CallError(
            f"the targets of {source.name} are {targets}, those of the data set {manifest.target_names}; give the "
            "source that the data set was made from"
        )
    new = _not_among(source.class_names or [], manifest.class_names or [])
    if kind == MULTI_LABEL and new:
        raise CallError(
            f"{source.name} has the new class {new[0]!r}, but the shards of a data set with several classes per sample "
            f"have a column for each of its {len(manifest.class_names or [])} classes; prepare it in another folder"
        )


def _relabeled(listing: SplitListing, numbers: np.ndarray, num_classes: int, kind: str | None) -> SplitListing:
    """Return the listing with the class numbers of the extended data set; `numbers`: the result of `class_numbers`."""
    if kind != MULTI_LABEL:
        return replace(listing, labels=numbers[listing.labels])
    labels = np.zeros((len(listing.keys), num_classes), np.uint8)
    labels[:, numbers[:-1]] = listing.labels
    return replace(listing, labels=labels)
