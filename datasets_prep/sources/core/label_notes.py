"""Messages about labels that a source does not have, each with what was looked for and how to give labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS
from datasets_prep.sources.core.label_values import UNKNOWN_SHOWN
from datasets_prep.sources.core.source import CLASSES, TARGETS, Source
from walloc_cdl.latents import UNKNOWN_LABEL

NO_LABELS = "no labels"
"""How messages begin that say why a source has no labels."""


def without_label_notes(notes: Iterable[str]) -> list[str]:
    """Return messages without those about missing labels, for a source that gets labels from elsewhere."""
    return [note for note in notes if not note.startswith(NO_LABELS)]


def all_unknown_note(where: str) -> str:
    """Return the message for labels that were found, but of which none is known."""
    return f"{NO_LABELS}: {where} has only unknown labels ({UNKNOWN_SHOWN}); name another place of the labels"


def unlabeled_notes(source: Source) -> Iterator[str]:
    """Yield a message for each split of a source with labels in which some samples have none."""
    for split, listing in source.listing.splits.items():
        total = len(listing.keys)
        missing = _count_unknown(listing.labels, source.listing.label_kind)
        if missing:
            shown = (
                f"none of its {total:,} samples has a label"
                if missing == total
                else (f"{missing:,} of its {total:,} samples have no label")
            )
            yield f"split {split}: {shown}; they are stored with their label unknown"


def _count_unknown(labels: np.ndarray, kind: str | None) -> int:
    """Return the number of samples without a label, or without one of their targets."""
    count = 0
    for start in range(0, len(labels) if kind in (CLASSES, TARGETS) else 0, CHUNK_ROWS):
        chunk = np.asarray(labels[start : start + CHUNK_ROWS])
        unknown = chunk == UNKNOWN_LABEL if kind == CLASSES else np.isnan(chunk).reshape(len(chunk), -1).any(1)
        count += int(np.count_nonzero(unknown))
    return count
