"""What a limit of the number of samples means, for sources and for streams.

A limit of N keeps at most N samples of each split, and is the same share of every class: samples are drawn class by
class, in the order of a hash of seed and key, each class in proportion to its size by largest remainders. So a limit
depends on keys, labels, groups and the seed alone, never on the order of a source. Samples without a label are drawn as
one more class; where samples have several labels or numbers, all of them are one class. The samples that are kept stay
in the order of the source.

A group, such as the segments of a clip, is kept as a whole or not at all. If no group has as few as N samples, the
first N samples of one group are kept.

A stream cannot be drawn from without reading it to its end, so a limit keeps its first N samples.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS, Column
from datasets_prep.sources.core.source import CLASSES, Source, SplitListing
from datasets_prep.sources.core.splits import SubsetSource, shares
from walloc_cdl.errors import CallError


class LimitedSource(SubsetSource):
    """At most `num_samples` samples of each split of a source, drawn as this module describes.

    `known` marks samples that are kept in any case, such as those of a data set that is extended: bool (N,) for each
    split. The others are drawn among the rest until there are `num_samples`. Raises `CallError` for a limit below 1.
    """

    def __init__(
        self, source: Source, num_samples: int, seed: int = 0, *, known: Mapping[str, np.ndarray] | None = None
    ) -> None:
        if num_samples < 1:
            raise CallError(f"limit {num_samples}; it must be at least 1")
        rows = {}
        for split, listing in source.listing.splits.items():
            kept = np.zeros(len(listing.keys), bool) if known is None else known[split].copy()
            others = np.flatnonzero(~kept)
            budget = num_samples - (len(kept) - len(others))
            if budget > 0:
                kept[_drawn(listing, others, budget, seed, by_class=source.listing.label_kind == CLASSES)] = True
            rows[split] = (split, np.flatnonzero(kept))
        super().__init__(source, rows)
        self.unlimited = source
        """The source of which these samples are a part."""
        self._num_samples, self._seed = num_samples, seed
        notes = [note for split in source.split_names if (note := self._note(source, split))]
        self.listing = replace(self.listing, notes=[*source.notes, *notes])

    def extending(self, known: Mapping[str, np.ndarray]) -> LimitedSource:
        """Return the samples of the same limit with `known` ones first."""
        return LimitedSource(self.unlimited, self._num_samples, self._seed, known=known)

    def limit_record(self) -> dict[str, Any]:
        """Return the limit for the manifest."""
        return {"limit": self._num_samples, "limit_seed": self._seed}

    def _note(self, source: Source, split: str) -> str | None:
        total, kept = source.num_samples(split), self.num_samples(split)
        if kept == total:
            return None
        text = f"limit {self._num_samples:,}: {kept:,} of the {total:,} samples of split {split}"
        if source.listing.label_kind != CLASSES:
            return f"{text}, drawn with seed {self._seed}"
        present, left = (np.unique(each.listing.splits[split].labels) for each in (source, self))
        lost = len(present[present >= 0]) - len(left[left >= 0])
        missing = f"; {lost:,} of its {(present >= 0).sum():,} classes have none of them" if lost else ""
        return f"{text}, the same share of each class, drawn with seed {self._seed}{missing}"


def limit(source: Source, num_samples: int, seed: int = 0) -> Source:
    """Return at most `num_samples` of each split: the same share of each class, drawn by the seed; see this module.

    Raises `CallError` for a limit below 1.
    """
    return LimitedSource(source, num_samples, seed)


def within_limit(source: Source, num_samples: int | None, seed: int = 0) -> Source:
    """Return the samples that a job with this limit takes; None for all. See `limit`."""
    return source if num_samples is None else limit(source, num_samples, seed)


def stream_end(num_samples: int | None) -> int | None:
    """Return the number of the first sample of a stream's split that a job with this `limit` does not take, or None."""
    return num_samples


def stream_note(num_samples: int | None) -> list[str]:
    """Return the message about the limit of a stream, for users."""
    if num_samples is None:
        return []
    return [
        f"limit {num_samples:,}: the first {num_samples:,} samples of each split of the stream, which may be of one "
        "class; from a source with random access, samples are drawn by class"
    ]


def first_samples(source: Source, num_samples: int) -> Source:
    """Return the samples that a limited stream takes: the first of each split, in order."""
    rows = {split: (split, np.arange(min(num_samples, source.num_samples(split)))) for split in source.split_names}
    return SubsetSource(source, rows)


def most_samples(num_samples: int | None, num_splits: int) -> int | None:
    """Return the largest number of samples that a job with this `limit` takes of all splits; None if it is unknown."""
    return None if num_samples is None else num_samples * num_splits


def _drawn(listing: SplitListing, rows: np.ndarray, count: int, seed: int, *, by_class: bool) -> np.ndarray:
    """Return at most `count` of the rows (int64, sorted), drawn by class and in whole groups."""
    if count >= len(rows):
        return rows
    units = _Units(listing, rows, seed)
    labels = np.asarray(listing.labels)[units.first] if by_class else np.zeros(len(units.first), np.int64)
    classes, class_of = np.unique(labels, return_inverse=True)
    members = np.bincount(class_of, units.sizes, len(classes))
    order = np.lexsort((units.ranks, class_of))
    drawn = _choose(order, class_of, units.sizes, shares(members, count))
    if not drawn.any():  # every group is larger
        return rows[units.unit_of == np.argmin(units.ranks)][:count]
    return rows[drawn[units.unit_of]]


class _Units:
    """Samples or groups of samples, which are kept or left as a whole."""

    def __init__(self, listing: SplitListing, rows: np.ndarray, seed: int) -> None:
        names = listing.keys if listing.groups is None else listing.groups
        values = Column(np.uint64)
        for start in range(0, len(rows), CHUNK_ROWS):
            for row in rows[start : start + CHUNK_ROWS]:
                values.append(_rank(names[row], seed))
        ranks = np.asarray(values.array())
        if listing.groups is None:
            first, unit_of = np.arange(len(rows)), np.arange(len(rows))
        else:
            _, first, unit_of = np.unique(ranks, return_index=True, return_inverse=True)
        self.ranks, self.first, self.unit_of = ranks[first], rows[first], unit_of
        """Of each unit its position in the drawing, uint64, and its first row; of each row its unit."""
        self.sizes = np.bincount(unit_of, minlength=len(first))


def _choose(order: np.ndarray, class_of: np.ndarray, sizes: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return which units are drawn, bool: in this order, which is class by class, as many as fit into `room`.

    `room`, int64, is the number of samples of each class. What is left, since groups do not fit exactly, is filled with
    a group of each class in turn, that with the most room first.
    """
    drawn = np.zeros(len(order), bool)
    starts = np.searchsorted(class_of[order], np.arange(len(room) + 1))
    if sizes.max() == 1:
        places = np.arange(len(order)) - starts[class_of[order]]
        drawn[order[places < room[class_of[order]]]] = True
        return drawn
    queues: list[deque[int]] = []
    for number in range(len(room)):
        queues.append(deque())
        for unit in order[starts[number] : starts[number + 1]].tolist():
            if sizes[unit] <= room[number]:
                drawn[unit] = True
                room[number] -= sizes[unit]
            else:
                queues[number].append(unit)
    left, is_changed = int(room.sum()), True
    while left and is_changed:
        is_changed = False
        for number in np.argsort(-room, kind="stable"):
            queue = queues[number]
            while queue and sizes[queue[0]] > left:  # what is left only becomes less
                queue.popleft()
            if queue:
                unit, is_changed = queue.popleft(), True
                drawn[unit] = True
                room[number] -= sizes[unit]
                left -= int(sizes[unit])
    return drawn


def _rank(name: str, seed: int) -> int:
    """Return the position of a name in the drawing: the first 64 bits of the hash by which `seeded_order` sorts."""
    data = f"{seed}:{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
