"""What a source has gained since a data set was made of it, as a source of its own."""

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
    """The samples of a source, told apart by what a data set's ledger says of them."""

    rows: dict[str, np.ndarray]
    """By split, int64: indices of the samples to encode, in the source's order."""
    retried: np.ndarray
    """bool, by position in `LedgerIndex`: not stored so far, and of another size now, so encoded once more."""
    seen: np.ndarray
    """bool, likewise: the source still has it."""
    num_moved: int = 0
    """Samples that the data set has in another split; they stay there."""
    num_relabeled: int = 0
    """Stored samples whose label is another now; they keep the old one."""
    num_changed: int = 0
    """Stored samples whose size is another now."""
    first_changed: str = ""
    """SPLIT/KEY of the first of them, with both sizes."""
    strays: list[Stray] = field(default_factory=list)
    """Those that the ledger has not."""

    @property
    def num_new(self) -> int:
        """Samples to encode."""
        return sum(map(len, self.rows.values()))


def diff_source(source: Source, known: LedgerIndex, manifest: Manifest) -> SourceDiff:
    """Compare a source with what a data set knows.

    A sample that the ledger has under another split only, with the same size, was held out by another draw or moved
    by hand: it is no new one. A dropped one is none wherever it stands.
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
    """Rows of samples that the ledger has not, or that are tried again; the rest is noted in `diff`."""
    listing, found = source.listing.splits[split], [np.empty(0, np.int64)]
    for start in range(0, len(listing.keys), CHUNK_ROWS):
        keys = listing.keys[start : start + CHUNK_ROWS]
        sizes = np.asarray(listing.num_bytes[start : start + CHUNK_ROWS])
        positions = known.find(sample_hashes(split, keys))
        new, here = positions == UNKNOWN, positions != UNKNOWN
        diff.seen[positions[here]] = True
        other_size = np.zeros(len(keys), bool)
        other_size[here] = known.num_bytes[positions[here]] != sizes[here]
        states = np.where(here, known.states[positions] if len(known) else 0, REMOVED)
        again = other_size & (states == NOT_STORED)
        diff.retried[positions[again]] = True
        stored = here & (states == STORED)
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
        new = known.find(sample_hashes(split, keys)) == UNKNOWN  # those that are tried again stay in their split
        for other in others:
            positions = known.find(sample_hashes(other, keys))
            there = np.flatnonzero(new & (positions != UNKNOWN))
            places = positions[there]
            same = (known.states[places] == REMOVED) | (known.num_bytes[places] == sizes[there])
            same &= ~diff.seen[places]
            moved[there[same]] = True
            diff.seen[places[same]] = True
        diff.num_moved += int(moved.sum())
        kept.append(part[~moved])
    return np.concatenate(kept)


def _chunks(rows: Any) -> Iterator[Any]:
    """Slices of a sequence or array."""
    return (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))


class NewSamplesSource(SubsetSource):
    """Rows of a source with the labels of a data set: its classes, then those that are new."""

    def __init__(self, source: Source, manifest: Manifest, rows: dict[str, np.ndarray]) -> None:
        """`rows`: by split, int64. Call `require_same_labels` before."""
        super().__init__(source, {split: (split, chosen) for split, chosen in rows.items()})
        listing = self.listing
        names = extended_names(source, manifest)
        if names != listing.class_names:
            numbers, kind = class_numbers(source, manifest), listing.label_kind
            splits = {
                split: _relabeled(part, numbers, len(names or []), kind) for split, part in listing.splits.items()
            }
            self.listing = replace(listing, splits=splits, class_names=names)


def extended_names(source: Source, manifest: Manifest) -> list[str] | None:
    """The data set's class names, then the source's further ones in its order; of targets the source's."""
    if source.listing.label_kind not in (CLASSES, MULTI_LABEL):
        return source.class_names
    known = manifest.class_names or []
    return [*known, *_not_among(source.class_names or [], known)] or None


def class_numbers(source: Source, manifest: Manifest) -> np.ndarray:
    """int64 (classes + 1,): the number in the extended data set of each of the source's classes; the last is that of
    unknown labels.
    """
    place = {name: number for number, name in enumerate(extended_names(source, manifest) or [])}
    return np.array([*(place[name] for name in source.class_names or []), UNKNOWN_LABEL], np.int64)


def _not_among(names: Sequence[str], known: Sequence[str]) -> list[str]:
    there = set(known)
    return [name for name in names if name not in there]


def require_same_labels(source: Source, manifest: Manifest) -> None:
    """Raise `CallError` for labels that the data set cannot hold."""
    kind = label_spec(source).kind
    if kind != manifest.label_kind:
        raise CallError(
            f"the labels of {source.name} are of kind {kind!r}, those of the data set of kind {manifest.label_kind!r}; "
            "give the source as the data set was made from it"
        )
    targets = label_names(source)["target_names"]
    if targets != manifest.target_names:
        raise CallError(
            f"the targets of {source.name} are {targets}, those of the data set {manifest.target_names}; give the "
            "source as the data set was made from it"
        )
    new = _not_among(source.class_names or [], manifest.class_names or [])
    if kind == MULTI_LABEL and new:
        raise CallError(
            f"{source.name} has the new class {new[0]!r}, but the samples of a data set of several classes a sample "
            f"have a column for each of its {len(manifest.class_names or [])}; prepare it anew in another folder"
        )


def _relabeled(listing: SplitListing, numbers: np.ndarray, num_classes: int, kind: str | None) -> SplitListing:
    """`numbers`: as `class_numbers` gives them."""
    if kind != MULTI_LABEL:
        return replace(listing, labels=numbers[listing.labels])
    labels = np.zeros((len(listing.keys), num_classes), np.uint8)
    labels[:, numbers[:-1]] = listing.labels
    return replace(listing, labels=labels)
