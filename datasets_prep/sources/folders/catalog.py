"""The contents of a local or remote folder, collected in columns: splits, classes, samples and stray files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS, Column, TextColumn, Texts
from datasets_prep.sources.core.label_notes import NO_LABELS
from datasets_prep.sources.core.label_values import is_unknown
from datasets_prep.sources.core.source import Listing, SplitListing, Stray
from datasets_prep.sources.core.split_names import in_order, known_split, named_split, resembled_split, two_readings
from datasets_prep.sources.core.strays import StrayColumn
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL

OUTSIDE_OF_SPLITS = "outside of the splits"
"""The reason of samples that lie beside the folders of splits."""


@dataclass(frozen=True)
class FileKind:
    """The kind of files that are samples of a folder, for their selection by name and for messages."""

    article: str
    name: str
    """Singular, such as `image`."""
    placeholder: str
    """The placeholder for a file in a path, such as `IMAGE`."""
    suffixes: frozenset[str]
    """File name suffixes in lower case, with the dot."""

    @property
    def layout(self) -> str:
        """The expected layouts of a folder, for messages."""
        file = self.placeholder
        return f"expected PATH/CLASS/{file}, PATH/train/CLASS/{file}, or {self.name}s in PATH itself"


@dataclass(frozen=True)
class FoundFile:
    """A file found in a folder."""

    parts: tuple[bytes, ...]
    """Path relative to the source."""
    num_bytes: int
    regular: bool

    def has_suffix(self, suffixes: frozenset[str]) -> bool:
        """Return whether it is a regular file with one of these suffixes."""
        stem, _, suffix = self.parts[-1].rpartition(b".")
        return self.regular and bool(stem) and f".{os.fsdecode(suffix)}".lower() in suffixes

    @property
    def key(self) -> str:
        """The path as text."""
        return "/".join(map(display_name, self.parts))


class Catalog:
    """Collects the files of a folder in columns: splits of samples, their classes, stray files."""

    def __init__(self, file_kind: FileKind, split_folders: dict[bytes, str]) -> None:
        self._file_kind, self._split_folders = file_kind, split_folders
        self._depth = 1 if split_folders else 0
        self._splits: dict[str, _SplitColumns] = {}
        self._classes: dict[str, int] = {}
        """Provisional numbers, in the order of their first files."""
        self._strays = StrayColumn()
        self._loose, self._beside, self._unknown, self._others = _Count(), _Count(), _Count(), _Count()
        """Samples outside of class folders, beside splits, in folders whose names are unknown labels; other files."""

    def add(self, file: FoundFile) -> None:
        """Add one file. Files must be added in the order of their paths."""
        file_kind, top = self._file_kind, file.parts[0]
        if not file.has_suffix(file_kind.suffixes):
            split = self._split_folders.get(top) if self._split_folders else "train"
            reason = f"not {file_kind.article} {file_kind.name} file name" if file.regular else "not a regular file"
            self._strays.append(Stray(split, file.key, file.num_bytes, reason))
            self._others.add(file)
            return
        split = self._split_folders.get(top) if self._split_folders else "train"
        if split is None:
            self._beside.add(file)
            self._strays.append(Stray(None, file.key, file.num_bytes, OUTSIDE_OF_SPLITS))
            return
        label = UNKNOWN_LABEL
        if len(file.parts) <= self._depth + 1:
            self._loose.add(file)
        elif is_unknown(name := display_name(file.parts[self._depth])):
            self._unknown.add(file)
        else:
            label = self._classes.setdefault(name, len(self._classes))
        if split not in self._splits:  # setdefault would make columns for every file
            self._splits[split] = _SplitColumns()
        self._splits[split].append(file, label)

    def paths(self) -> dict[str, Texts]:
        """Return for each split the paths of its files, relative to the source."""
        return {split: columns.paths for split, columns in self._splits.items()}

    def listing(self, root: str) -> Listing:
        """Return the listing. Raises `CallError` without samples."""
        strays = self._strays.strays()
        if not self._splits:
            raise CallError(no_samples_message(root, strays, self._file_kind))
        names = sorted(self._classes)
        position = {name: number for number, name in enumerate(names)}
        numbers = np.array([*(position[name] for name in self._classes), UNKNOWN_LABEL], np.int64)
        self._splits = {split: self._splits[split] for split in in_order(self._splits)}
        return Listing(
            {split: columns.close(numbers) for split, columns in self._splits.items()},
            names or None,
            strays,
            notes=list(self._notes(root)),
        )

    def _notes(self, root: str) -> Iterator[str]:
        """Yield messages for users about samples without a class or a split."""
        noun = self._file_kind.name
        if self._beside.number:
            yield (
                f"{self._beside.number:,} {noun}s of {root!r} lie beside its splits ({self._beside.first} is the "
                "first) and are not stored; move them into a split if they are samples"
            )
        if self._unknown.number:
            yield (
                f"{self._unknown.number:,} {noun}s are in folders whose names mean an unknown label "
                f"({self._unknown.first} is the first)"
            )
        if self._classes and self._loose.number:
            yield (
                f"{NO_LABELS} of {self._loose.number:,} {noun}s: they lie outside of the class folders "
                f"({self._loose.first} is the first)"
            )
        elif not self._classes:
            others = self._others
            beside = (
                f"; {others.number:,} other files are not read ({others.first} is the first)" if others.number else ""
            )
            yield (
                f"{NO_LABELS} in {root!r}: it has no class folders (PATH/CLASS/{self._file_kind.placeholder}){beside}; "
                f"make a folder for each class, or give --labels FILE, a text file of lines NAME LABEL"
            )


class _Count:
    """Counts files and remembers the first."""

    def __init__(self) -> None:
        self.number, self.first = 0, ""

    def add(self, file: FoundFile) -> None:
        """Count a file."""
        self.first = self.first or file.key
        self.number += 1


class _SplitColumns:
    """The samples of one split, collected in columns."""

    def __init__(self) -> None:
        self._paths = TextColumn()
        self._labels, self._num_bytes = Column(np.int64), Column(np.int64)

    def append(self, file: FoundFile, label: int) -> None:
        self._paths.append(b"/".join(file.parts))
        self._labels.append(label)
        self._num_bytes.append(file.num_bytes)

    def close(self, numbers: np.ndarray) -> SplitListing:
        """Return the listing. `numbers` maps provisional class numbers to final ones; its last entry is "unlabeled"."""
        self.paths = self._paths.texts()
        labels = self._labels.array()
        for start in range(0, len(labels), CHUNK_ROWS):
            labels[start : start + CHUNK_ROWS] = numbers[labels[start : start + CHUNK_ROWS]]
        return SplitListing(self.paths, labels, self._num_bytes.array())


def display_name(name: bytes) -> str:
    """Return a file name as text, with bytes that are not UTF-8 escaped."""
    return name.decode("utf-8", "backslashreplace")


def no_samples_message(root: str, others: Sequence[Stray], file_kind: FileKind) -> str:
    """Return the message for a folder without samples."""
    if not others:
        return f"folder {root!r} is empty; {file_kind.layout}"
    found = f"only {len(others)} other files ({others[0].key} is the first)"
    return f"no {file_kind.name} in {root!r}, {found}; {file_kind.layout}"


def split_folders(
    root: str,
    entries: Sequence[tuple[bytes, bool]],
    has_samples: Callable[[bytes], bool],
    file_kind: FileKind,
    splits: bool | None = None,
) -> dict[bytes, str]:
    """Map folder names to split names if the folder is divided into splits; empty otherwise.

    `entries`: the folder's direct entries, in any order, and whether they are folders; `has_samples`: whether such a
    folder contains a sample; `splits`: whether the folders are splits, None to decide by their names. Raises
    `CallError` for names that leave it open and for two folders of one split.
    """
    if splits is False:
        return {}
    entries = sorted(entries)
    folders = {display_name(name): name for name, is_folder in entries if is_folder and not name.startswith(b".")}
    if splits is None and not any(map(resembled_split, folders)):
        return {}
    tops = [top for top, name in folders.items() if has_samples(name)]
    if splits is None:
        if not any(map(resembled_split, tops)):
            return {}
        if not all(map(known_split, tops)):
            raise two_readings(f"{root!r} has folders", tops, "classes")
    elif not tops:
        raise CallError(f"{root!r} has no folder of {file_kind.name}s that could be a split; omit ?splits=1")
    found: dict[str, list[str]] = {}
    for top in tops:
        found.setdefault(named_split(top, repr(root)), []).append(top)
    for split, names in found.items():
        if len(names) > 1:
            raise CallError(
                f"{root!r} has {' and '.join(sorted(names))}, which all mean {split}; keep one of them, or append "
                "?splits=0 to the source to read all folders as classes"
            )
    return {folders[top]: split for split, (top,) in found.items()}
