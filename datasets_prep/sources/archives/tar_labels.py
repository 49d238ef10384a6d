"""The labels of samples in tars: the content of their `.cls`, or a field of their `.json`."""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO

import numpy as np

from datasets_prep.sources.archives.tars import TarMember
from datasets_prep.sources.core.label_kinds import ClassLabels, Labels, MultiLabels
from datasets_prep.sources.core.label_notes import all_unknown_note
from datasets_prep.sources.core.label_values import class_value, is_unknown
from datasets_prep.sources.folders.imagefolder import IMAGE_SUFFIXES
from walloc_cdl.errors import CallError
from walloc_cdl.json_files import parse_json
from walloc_cdl.latents import UNKNOWN_LABEL

MAX_CLS_BYTES = 4096
MAX_JSON_BYTES = 2**20
"""Larger labels are refused, since labels are read into memory."""

MAX_SUFFIXES = 20
"""How many suffixes of members a message names; members may have any number of them."""

Members = list[tuple[str, TarMember]]
"""The members of a sample: suffix in lower case, without the first dot, and member."""


class TarLabels:
    """Collects labels during one pass over all headers, and what a message about missing labels needs."""

    def __init__(self, wanted: str | None) -> None:
        """`wanted`: the field of the `.json` that holds the label; None for the content of the `.cls`."""
        self._field, self._suffix = wanted, "cls" if wanted is None else "json"
        self._labels: Labels | None = None
        """None until the first label, which determines the kind of all labels."""
        self._unlabeled: Counter[str] = Counter()
        """For each split, the number of samples before the first label."""
        self._suffixes: Counter[str] = Counter()
        """How many images have a member with each suffix beside them, for the first `MAX_SUFFIXES` suffixes."""
        self._fields: list[str] | None = None
        """The fields of the first `.json` beside an image."""
        self._num_apart, self._first_apart = 0, ""

    def append(self, split: str, members: Members, image: TarMember, file: BinaryIO, shown: str) -> None:
        """Append the label of a sample, whose name for messages is `shown`. Raises `CallError` for an unusable one."""
        member = next((member for name, member in members if name == self._suffix), None)
        self._look_at(members, image, file)
        value: object = None
        if member is not None:
            max_bytes = MAX_CLS_BYTES if self._field is None else MAX_JSON_BYTES
            where = f"{self._suffix} of {shown!r}"
            if member.num_bytes > max_bytes:
                raise CallError(f"{where} has {member.num_bytes:,} bytes; expected at most {max_bytes:,}")
            value = _parsed(_content(file, member), self._field, f"{self._suffix} of sample {shown!r}")
        if self._labels is None:
            if value is None:
                self._unlabeled[split] += 1
                return
            self._labels = MultiLabels() if isinstance(value, list) else ClassLabels()
            for before, count in self._unlabeled.items():
                for _ in range(count):
                    self._labels.append(before, None)
        if value is not None and isinstance(value, list) != isinstance(self._labels, MultiLabels):
            raise CallError(
                f"label of {shown!r} is {str(value)[:60]}, of another kind than those before; choose another field"
            )
        self._labels.append(split, value)

    def skip(self, members: Members, shown: str) -> None:
        """Count a sample without an image, if it has a label."""
        names = [name for name, _ in members]
        if self._suffix in names and not any(map(is_image, names)):
            self._num_apart += 1
            self._first_apart = self._first_apart or f"{shown}.{self._suffix}"

    def names(self) -> list[str] | None:
        """Return the names of the classes; None if no sample has a label."""
        return None if self._labels is None else self._labels.names()

    @property
    def kind(self) -> str | None:
        """See `Listing.label_kind`."""
        return None if self._labels is None or self.names() is None else self._labels.kind

    def close(self, split: str, length: int) -> np.ndarray:
        """Return the labels of a split of `length` samples, see `SplitListing.labels`."""
        if self._labels is None or self.names() is None:
            return np.full(length, UNKNOWN_LABEL, np.int64)
        return self._labels.close(split)

    def notes(self) -> list[str]:
        """Return, for users, why samples have no labels; call it after the last tar."""
        notes = []
        if self._num_apart:
            notes.append(
                f"{self._num_apart:,} .{self._suffix} members lie apart from their images ({self._first_apart} is the "
                "first) and give no labels, since the members of a sample must be adjacent; write the tars again, "
                "sorted by name"
            )
        if self.names() is not None:
            return notes
        if self._suffixes["cls"] and self._field is None:
            return [*notes, all_unknown_note("the .cls of the samples")]
        sought = "a .cls" if self._field is None else f"the field {self._field!r} of a .json"
        found = ", ".join(f".{name}" for name in sorted(self._suffixes))
        fields = f"; the first .json has the fields {', '.join(self._fields)[:200]}" if self._fields else ""
        notes.append(
            f"no labels: {sought} beside each image was looked for, and beside the images are "
            f"{found or 'no other members'}{fields}; name a field of a .json with ?label=FIELD, or write the labels "
            "as .cls"
        )
        return notes

    def _look_at(self, members: Members, image: TarMember, file: BinaryIO) -> None:
        """Remember what lies beside an image, for `notes`."""
        for suffix, member in members:
            if member is not image and (suffix in self._suffixes or len(self._suffixes) < MAX_SUFFIXES):
                self._suffixes[suffix] += 1
            if suffix == "json" and self._fields is None:
                self._fields = _fields(_content(file, member)) if member.num_bytes <= MAX_JSON_BYTES else []


def is_image(suffix: str) -> bool:
    """Return whether a member with this suffix, in lower case and without the first dot, is an image."""
    return f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES


def _content(file: BinaryIO, member: TarMember) -> bytes:
    """Return the content of a member; the position in the tar stays."""
    position = file.tell()
    file.seek(member.offset)
    data = file.read(member.num_bytes)
    file.seek(position)
    return data


def _fields(data: bytes) -> list[str]:
    """Return the fields of a `.json`; none if it is damaged or has no fields."""
    try:
        record = parse_json(data, allow_nan=True)
    except ValueError:
        return []
    return list(record) if isinstance(record, dict) else []


def _parsed(data: bytes, wanted: str | None, where: str) -> str | int | list[str | int | None] | None:
    """Return the label in a `.cls`, or in a field of a `.json`; None if it is unknown."""
    try:
        if wanted is None:
            text = data.decode("utf-8").strip()
            return None if is_unknown(text) else text
        record = parse_json(data, allow_nan=True)  # Python writes NaN for a missing label
    except ValueError as error:
        raise CallError(f"{where} cannot be read: {str(error)[:100]}; choose another label, or repair it") from error
    value = record.get(wanted) if isinstance(record, dict) else None
    items = value if isinstance(value, list) else [value]
    if not all(map(_is_class, items)):
        raise CallError(f"{where} has {str(value)[:60]!r} as {wanted!r}; expected an integer, a name or a list of them")
    classes = [class_value(item) for item in items]
    return classes if isinstance(value, list) else classes[0]


def _is_class(item: object) -> bool:
    """Return whether a value in JSON is a class or an unknown label; pandas writes integers with gaps as floats."""
    if isinstance(item, float):
        return item.is_integer() or is_unknown(item)
    return not isinstance(item, bool) and isinstance(item, (str, int, type(None)))
