"""The interface of every source: splits of samples, each with a key, a label, a size and a location."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from datasets_prep.decode.color import GRAY_MODES
from datasets_prep.decode.images import image_mode
from datasets_prep.samples.columns import CHUNK_ROWS
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import BadSignalError, Stored
from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.errors import utf8_text

if TYPE_CHECKING:
    import pyarrow as pa

CLASSES, MULTI_LABEL, TARGETS = "class", "multilabel", "regression"
"""Kinds of labels, see `Listing.label_kind`."""

MODE_SAMPLES = 32
"""Number of images whose header is read to decide whether a source is gray or in color."""


class Presence(IntEnum):
    """What a listing tells of the existence of a sample, so that one that cannot be read later is judged by it."""

    UNKNOWN = 0
    """It has not looked for the sample, as for a URL in a table, or not found it."""
    FOUND = 1
    """It has found the sample. If the system cannot read it later, the source is at fault."""
    UNUSABLE = 2
    """The sample could not be used before, and is tried once more."""


@dataclass(frozen=True)
class SplitListing:
    """The samples of one split, in their fixed order."""

    keys: Sequence[str]
    """Names that are unique within the split; for folders, paths relative to the source, with slashes."""
    labels: np.ndarray
    """int64 (N,), indices into the source's class names; `UNKNOWN_LABEL` for a sample without a label.

    Other kinds of labels, see `Listing.label_kind`: `multilabel` uint8 (N, L), `regression` float32 (N, T)."""
    num_bytes: np.ndarray
    """int64 (N,), the size of each stored sample in bytes; 0 if it is unknown."""
    groups: Sequence[str] | None = None
    """Group names: samples of one group, such as segments of one clip, stay in one split. None if there are none."""
    columns: pa.Table | None = None
    """Further columns of the source, kept on request (`?keep=`): N rows, memory-mapped if they are large."""
    presence: np.ndarray | None = None
    """uint8 (N,), values of `Presence`; None if those with a size were found, and nothing is known of others."""


@dataclass(frozen=True)
class Stray:
    """A stray file: it lies among the samples but is not one. It is recorded in the ledger only."""

    split: str | None
    """None if it lies outside of every split."""
    key: str
    num_bytes: int
    reason: str


@dataclass(frozen=True)
class Listing:
    """Everything that is known about a source without reading a sample."""

    splits: dict[str, SplitListing]
    class_names: list[str] | None
    """None if no sample has a label."""
    strays: Sequence[Stray] = field(default_factory=list)
    label_kind: str | None = None
    """See `LabelSpec`: `class`, the default if there are class names; `multilabel` or `regression`, for which the
    class names are the names of the label columns; or None."""
    notes: Sequence[str] = ()
    """Messages for users about what they may miss, such as labels that were not found, each with what to do."""

    def __post_init__(self) -> None:
        if self.label_kind is None and self.class_names is not None:
            object.__setattr__(self, "label_kind", CLASSES)


class Source(ABC):
    """Splits of stored samples. A source decodes nothing: `read` returns the encoded file or its location.

    `name` is short and says where the samples come from, without absolute paths. Manifests store it.
    """

    kind = "image"
    """`image`, `array` or `audio`: the kind of preparation that its samples need."""

    def __init__(self, name: str, listing: Listing) -> None:
        self.name = utf8_text(name)
        self.listing = listing

    @abstractmethod
    def read(self, split: str, index: int) -> Stored:
        """Return the encoded sample or its location. A path need not exist."""

    def can_read(self, split: str, index: int) -> bool:
        """Return whether `read` can give the sample; a stream that was consumed knows most samples by name only."""
        return True

    def part(self, split: str, start: int, stop: int) -> Sequence[Stored]:
        """Return samples `start` to `stop` of a split as a small picklable sequence, for a worker on any machine."""
        return self.references(split, range(start, stop))

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """Return the selected samples; a source whose `read` returns bytes returns references to its files instead."""
        return [self.read(split, row) for row in rows]

    @property
    def root(self) -> Source:
        """The source itself; for a derived source, the source that it was derived from first."""
        return self

    @property
    def split_names(self) -> list[str]:
        """Names of the splits, in the order in which they are prepared."""
        return list(self.listing.splits)

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes; None for a source without labels."""
        return self.listing.class_names

    @property
    def notes(self) -> Sequence[str]:
        """See `Listing.notes`."""
        return self.listing.notes

    @property
    def strays(self) -> Sequence[Stray]:
        """The stray files of the source."""
        return self.listing.strays

    def num_samples(self, split: str) -> int:
        """Number of samples in a split."""
        return len(self.listing.splits[split].keys)

    def key(self, split: str, index: int) -> str:
        """Name of a sample, unique within its split."""
        return self.listing.splits[split].keys[index]

    def label(self, split: str, index: int) -> int:
        """Return the index of a sample's class, or `UNKNOWN_LABEL`."""
        return int(self.listing.splits[split].labels[index])

    def num_bytes(self, split: str, index: int) -> int:
        """Size of a stored sample, in bytes."""
        return int(self.listing.splits[split].num_bytes[index])

    def presence(self, split: str, index: int) -> Presence:
        """Return what the listing tells of the existence of a sample."""
        known = self.listing.splits[split].presence
        if known is not None:
            return Presence(int(known[index]))
        return Presence.FOUND if self.num_bytes(split, index) else Presence.UNKNOWN

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of every sample's split, key, size and label; it does not depend on the location."""
        digests = {split: _listing_digest(listing) for split, listing in self.listing.splits.items()}
        strays = _texts_digest(f"{s.split} {s.num_bytes} {s.reason} {s.key}" for s in self.strays)
        return sha256_hex(canonical_json({"splits": digests, "classes": self.class_names, "strays": strays}))

    @property
    def origin(self) -> Origin:
        """The folders or files without which no sample of the source exists; empty for a source without any."""
        return Origin()

    def absence(self) -> str | None:
        """Describe what is missing if the whole source is, so that its samples are not recorded as bad; else None."""
        return self.origin.absence()

    @cached_property
    def channels(self) -> int | None:
        """1 if the images are gray, else 3, decided from up to `MODE_SAMPLES` of them; None if none can be read."""
        total = sum(self.num_samples(split) for split in self.split_names)
        count = min(MODE_SAMPLES, total)
        modes = [self._mode(number * total // count) for number in range(count)]
        readable = [mode for mode in modes if mode is not None]
        if not readable:
            return None
        return 1 if set(readable) <= set(GRAY_MODES) else 3

    def _mode(self, number: int) -> str | None:
        """Return the PIL mode of a sample, numbered through all splits; None if it cannot be read."""
        for split in self.split_names:
            if number < self.num_samples(split):
                try:
                    return image_mode(self.read(split, number))
                except BadSignalError:
                    return None
            number -= self.num_samples(split)
        raise IndexError(number)


def _listing_digest(listing: SplitListing) -> str:
    """Return the SHA-256 (hex) of keys, sizes and labels, in constant memory."""
    digest = hashlib.sha256()
    for start in range(0, len(listing.keys), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        keys = [key.encode("utf-8", "surrogatepass") for key in listing.keys[rows]]
        digest.update(np.fromiter(map(len, keys), "<i8", len(keys)).tobytes() + b"".join(keys))
        digest.update(np.asarray(listing.num_bytes[rows], "<i8").tobytes())
        digest.update(np.asarray(listing.labels[rows]).tobytes())
    return digest.hexdigest()


def _texts_digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
