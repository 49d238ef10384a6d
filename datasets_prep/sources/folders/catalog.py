"""What a walk through a folder finds, wherever it lies: splits, classes, samples, strays, in columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from datasets_prep.samples.columns import CHUNK_ROWS, Column, TextColumn, Texts
from datasets_prep.sources.core.source import Listing, SplitListing, Stray
from datasets_prep.sources.core.strays import StrayColumn
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL

SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
"""Names of folders that are splits, and the splits' names, in the order in which these are prepared."""


@dataclass(frozen=True)
class FileNoun:
    """What the files of a folder are, for choosing them by their names and for messages."""

    article: str
    name: str
    """Singular: `image`."""
    placeholder: str
    """What stands for one in a path: `IMAGE`."""
    suffixes: frozenset[str]
    """Lower case, with the dot."""

    @property
    def layout(self) -> str:
        """What is expected of a folder."""
        file = self.placeholder
        return f"expected PATH/CLASS/{file}, PATH/train/CLASS/{file}, or {self.name}s in PATH itself"


@dataclass(frozen=True)
class FoundFile:
    """A file that a walk has met."""

    parts: tuple[bytes, ...]
    """Path below the source."""
    num_bytes: int
    regular: bool

    def is_named(self, suffixes: frozenset[str]) -> bool:
        """Whether it is a sample by its name."""
        stem, _, suffix = self.parts[-1].rpartition(b".")
        return self.regular and bool(stem) and f".{os.fsdecode(suffix)}".lower() in suffixes

    @property
    def key(self) -> str:
        """The path as text."""
        return "/".join(map(shown_name, self.parts))


class Catalog:
    """What a walk finds, gathered in columns: splits of samples, their classes, strays."""

    def __init__(self, noun: FileNoun, split_folders: dict[bytes, str]) -> None:
        self._noun, self._split_folders = noun, split_folders
        self._depth = 1 if split_folders else 0
        self._splits: dict[str, _SplitColumns] = {}
        self._classes: dict[str, int] = {}
        """Provisional numbers, in the order of their first files."""
        self._strays = StrayColumn()
        self._num_loose, self._first_loose = 0, ""

    def add(self, file: FoundFile) -> None:
        """One file, in the order of the paths."""
        noun, top = self._noun, file.parts[0]
        if not file.is_named(noun.suffixes):
            split = self._split_folders.get(top) if self._split_folders else "train"
            reason = f"not {noun.article} {noun.name} file name" if file.regular else "not a regular file"
            self._strays.append(Stray(split, file.key, file.num_bytes, reason))
            return
        label = UNKNOWN_LABEL
        if len(file.parts) > self._depth + 1:
            label = self._classes.setdefault(shown_name(file.parts[self._depth]), len(self._classes))
        elif not self._num_loose:
            self._num_loose, self._first_loose = 1, file.key
        else:
            self._num_loose += 1
        split = self._split_folders.get(top, "train")
        if split not in self._splits:  # setdefault would make columns for every file
            self._splits[split] = _SplitColumns()
        self._splits[split].append(file, label)

    def paths(self) -> dict[str, Texts]:
        """For each split the files' paths below the source."""
        return {split: columns.paths for split, columns in self._splits.items()}

    def listing(self, root: str) -> Listing:
        """All of it; `CallError` where there is nothing, or samples both in class folders and beside them."""
        noun, strays = self._noun, self._strays.strays()
        if not self._splits:
            raise CallError(none_found(root, strays, noun))
        names = sorted(self._classes)
        if names and self._num_loose:
            raise CallError(
                f"{root!r} has class folders ({names[0]} is the first) and {self._num_loose} {noun.name}s outside "
                f"of them ({self._first_loose} is the first); move those into a class folder"
            )
        numbers = np.array([names.index(name) for name in self._classes] + [UNKNOWN_LABEL], np.int64)
        order = [split for split in dict.fromkeys(SPLIT_FOLDERS.values()) if split in self._splits]
        self._splits = {split: self._splits[split] for split in order}
        return Listing(
            {split: columns.close(numbers) for split, columns in self._splits.items()}, names or None, strays
        )


class _SplitColumns:
    """Samples of one split while they are found."""

    def __init__(self) -> None:
        self._paths = TextColumn()
        self._labels, self._num_bytes = Column(np.int64), Column(np.int64)

    def append(self, file: FoundFile, label: int) -> None:
        self._paths.append(b"/".join(file.parts))
        self._labels.append(label)
        self._num_bytes.append(file.num_bytes)

    def close(self, numbers: np.ndarray) -> SplitListing:
        """The listing, `numbers` being the final one of each provisional class (the last one of none)."""
        self.paths = self._paths.texts()
        labels = self._labels.array()
        for start in range(0, len(labels), CHUNK_ROWS):
            labels[start : start + CHUNK_ROWS] = numbers[labels[start : start + CHUNK_ROWS]]
        return SplitListing(self.paths, labels, self._num_bytes.array())


def shown_name(name: bytes) -> str:
    """A file's name as text: what is no UTF-8 is escaped."""
    return name.decode("utf-8", "backslashreplace")


def none_found(root: str, others: Sequence[Stray], noun: FileNoun) -> str:
    """The words for a folder without samples."""
    if not others:
        return f"folder {root!r} is empty; {noun.layout}"
    return f"no {noun.name} in {root!r}, only {len(others)} other files ({others[0].key} is the first); {noun.layout}"


def split_folders(
    root: str, entries: Sequence[tuple[bytes, bool]], has_samples: Callable[[bytes], bool], noun: FileNoun
) -> dict[bytes, str]:
    """Folder to split name, for a folder with splits of its own; empty for any other.

    `entries`: names right below it and whether they are folders, in any order; `has_samples`: whether there is
    one below such a folder. Raises `CallError` for samples beside splits, and for two folders of one split.
    """
    entries = sorted(entries)
    folders = [name for name, is_folder in entries if is_folder and not name.startswith(b".")]
    if not any(shown_name(name) in SPLIT_FOLDERS for name in folders):
        return {}
    tops = [shown_name(name) for name in folders if has_samples(name)]
    if not tops or not SPLIT_FOLDERS.keys() >= set(tops):
        return {}
    for name, is_folder in entries:
        direct = FoundFile((name,), 0, regular=not is_folder and not name.startswith(b"."))
        if direct.is_named(noun.suffixes):
            raise CallError(
                f"{root!r} has splits ({', '.join(sorted(tops))}) and {noun.name}s beside them "
                f"({direct.key} is the first); move those into a split"
            )
    names = sorted(top for top in tops if SPLIT_FOLDERS[top] == "validation")
    if len(names) > 1:
        raise CallError(f"{root!r} has {' and '.join(names)}, all meaning validation; keep one of them")
    return {os.fsencode(top): SPLIT_FOLDERS[top] for top in tops}
