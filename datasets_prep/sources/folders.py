"""Folders of files: a folder for each class, and above them, if wanted, one for each split."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_prep.sources.base import UNKNOWN_LABEL, Listing, Source, SplitListing, Stray
from datasets_prep.sources.columns import CHUNK_ROWS, Column, TextColumn, Texts
from datasets_prep.sources.strays import StrayColumn
from walloc_cdl.errors import CallError

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
class _File:
    parts: tuple[bytes, ...]
    """Path below the source."""
    num_bytes: int
    regular: bool

    def is_named(self, suffixes: frozenset[str]) -> bool:
        return self.regular and os.path.splitext(os.fsdecode(self.parts[-1]))[1].lower() in suffixes

    @property
    def key(self) -> str:
        return "/".join(map(_shown, self.parts))


class FileFolder(Source):
    """Files of one kind below a folder, in the order of their paths, each one sample.

    Folders called train, validation (val, valid) and test right below it are splits if no other
    folder there has such files; otherwise all is one split, `train`. Within a split the first folder
    is the class; files without one are allowed when there is no class folder at all. Hidden files
    are left out, other files that are none by their name are strays.

    Raises `CallError` for a missing folder, one without such files, and one that is neither of the two layouts.
    """

    noun: FileNoun

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        root, noun = Path(folder), self.noun
        if not root.is_dir():
            found = "is a file" if root.exists() else "does not exist"
            raise CallError(f"{noun.name} folder {str(root)!r} {found}; give the path of a folder of {noun.name}s")
        split_folders = _split_folders(root, noun)
        catalog = _Catalog(noun, split_folders)
        for file in _walk(os.fsencode(root), (), frozenset()):
            catalog.add(file)
        super().__init__(root.resolve().name or "root", catalog.listing(root))
        self._root = root
        self._paths = catalog.paths()

    def read(self, split: str, index: int) -> Path:
        """Path of the sample's file."""
        return self._root / os.fsdecode(self._paths[split].raw(index))

    def absence(self) -> str | None:
        """See `Source.absence`."""
        return None if self._root.is_dir() else f"the folder {str(self._root)!r}"


class _Catalog:
    """What a walk finds, gathered in columns: splits of samples, their classes, strays."""

    def __init__(self, noun: FileNoun, split_folders: dict[bytes, str]) -> None:
        self._noun, self._split_folders = noun, split_folders
        self._depth = 1 if split_folders else 0
        self._splits: dict[str, _SplitColumns] = {}
        self._classes: dict[str, int] = {}
        """Provisional numbers, in the order of their first files."""
        self._strays = StrayColumn()
        self._num_loose, self._first_loose = 0, ""

    def add(self, file: _File) -> None:
        """One file, in the order of the paths."""
        noun, top = self._noun, file.parts[0]
        if not file.is_named(noun.suffixes):
            split = self._split_folders.get(top) if self._split_folders else "train"
            reason = f"not {noun.article} {noun.name} file name" if file.regular else "not a regular file"
            self._strays.append(Stray(split, file.key, file.num_bytes, reason))
            return
        label = UNKNOWN_LABEL
        if len(file.parts) > self._depth + 1:
            label = self._classes.setdefault(_shown(file.parts[self._depth]), len(self._classes))
        elif not self._num_loose:
            self._num_loose, self._first_loose = 1, file.key
        else:
            self._num_loose += 1
        split = self._split_folders.get(top, "train")
        self._splits.setdefault(split, _SplitColumns()).append(file, label)

    def paths(self) -> dict[str, Texts]:
        """For each split the files' paths below the source."""
        return {split: columns.paths for split, columns in self._splits.items()}

    def listing(self, root: Path) -> Listing:
        """All of it; `CallError` where there is nothing, or samples both in class folders and beside them."""
        noun, strays = self._noun, self._strays.strays()
        if not self._splits:
            raise CallError(_none_found(root, strays, noun))
        names = sorted(self._classes)
        if names and self._num_loose:
            raise CallError(
                f"{str(root)!r} has class folders ({names[0]} is the first) and {self._num_loose} {noun.name}s outside "
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

    def append(self, file: _File, label: int) -> None:
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


def _walk(folder: bytes, parts: tuple[bytes, ...], ancestors: frozenset[tuple[int, int]]) -> Iterator[_File]:
    """Every file that is not hidden, in the order of the paths; symbolic links are followed, except back upwards."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in ancestors:
        return
    ancestors = ancestors | {(status.st_dev, status.st_ino)}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: _shown(entry.name))
    except OSError as error:
        shown = os.fsdecode(folder)
        raise CallError(f"folder {shown!r} cannot be listed: {error.strerror}; allow it to be read") from error
    for entry in entries:
        if entry.name.startswith(b"."):
            continue
        below = (*parts, entry.name)
        target = _target_status(entry)
        if target is None:  # a broken link, or one to itself: a sample that has vanished
            yield _File(below, 0, regular=entry.is_symlink())
        elif stat.S_ISDIR(target.st_mode):
            yield from _walk(entry.path, below, ancestors)
        else:  # a pipe or a socket must not be opened
            yield _File(below, target.st_size, regular=stat.S_ISREG(target.st_mode))


def _target_status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    """Of what a link leads to; None where it leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        return None


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    target = _target_status(entry)
    return target is not None and stat.S_ISDIR(target.st_mode)


def _shown(name: bytes) -> str:
    """A file's name as text: what is no UTF-8 is escaped."""
    return name.decode("utf-8", "backslashreplace")


def _none_found(root: Path, others: Sequence[Stray], noun: FileNoun) -> str:
    if not others:
        return f"folder {str(root)!r} is empty; {noun.layout}"
    return (
        f"no {noun.name} in {str(root)!r}, only {len(others)} other files ({others[0].key} is the first); {noun.layout}"
    )


def _split_folders(root: Path, noun: FileNoun) -> dict[bytes, str]:
    """Folder to split name, for a folder with splits of its own; empty for any other.

    Only the folders' own names are read, and so much of each that a first sample is found.
    """
    entries = sorted(os.scandir(os.fsencode(root)), key=lambda entry: entry.name)
    folders = [entry for entry in entries if _is_folder(entry) and not entry.name.startswith(b".")]
    if not any(_shown(entry.name) in SPLIT_FOLDERS for entry in folders):
        return {}
    tops = [_shown(entry.name) for entry in folders if _has_samples(entry, noun)]
    if not tops or not SPLIT_FOLDERS.keys() >= set(tops):
        return {}
    for entry in entries:
        direct = _File((entry.name,), 0, regular=not _is_folder(entry) and not entry.name.startswith(b"."))
        if direct.is_named(noun.suffixes):
            raise CallError(
                f"{str(root)!r} has splits ({', '.join(sorted(tops))}) and {noun.name}s beside them "
                f"({direct.key} is the first); move those into a split"
            )
    names = sorted(top for top in tops if SPLIT_FOLDERS[top] == "validation")
    if len(names) > 1:
        raise CallError(f"{str(root)!r} has {' and '.join(names)}, all meaning validation; keep one of them")
    return {os.fsencode(top): SPLIT_FOLDERS[top] for top in tops}


def _has_samples(folder: os.DirEntry[bytes], noun: FileNoun) -> bool:
    return any(file.is_named(noun.suffixes) for file in _walk(folder.path, (folder.name,), frozenset()))
