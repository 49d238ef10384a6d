"""Folders of files: a folder for each class, and above them, if wanted, one for each split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_prep.sources.base import UNKNOWN_LABEL, Listing, Source, SplitListing, Stray
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
    path: Path
    parts: tuple[str, ...]
    """Path below the source, for keys: names that are no UTF-8 are escaped."""
    num_bytes: int
    regular: bool

    def is_named(self, suffixes: frozenset[str]) -> bool:
        return self.regular and self.path.suffix.lower() in suffixes

    @property
    def key(self) -> str:
        return "/".join(self.parts)


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
        files = sorted(_walk(root, (), frozenset()), key=lambda file: file.parts)
        members = [file for file in files if file.is_named(noun.suffixes)]
        if not members:
            raise CallError(_none_found(root, files, noun))
        split_folders = _split_folders(root, members, noun)
        by_split: dict[str, list[_File]] = {}
        for file in members:
            by_split.setdefault(split_folders.get(file.parts[0], "train"), []).append(file)
        by_split = {split: by_split[split] for split in dict.fromkeys(SPLIT_FOLDERS.values()) if split in by_split}
        depth = 1 if split_folders else 0
        class_names = _class_names(root, by_split, depth, noun)
        listings = {split: _listing(group, class_names, depth) for split, group in by_split.items()}
        strays = [_stray(file, split_folders, noun) for file in files if not file.is_named(noun.suffixes)]
        super().__init__(root.resolve().name or "root", Listing(listings, class_names, strays))
        self._paths = {split: [file.path for file in group] for split, group in by_split.items()}

    def read(self, split: str, index: int) -> Path:
        """Path of the sample's file."""
        return self._paths[split][index]


def _walk(folder: Path, parts: tuple[str, ...], ancestors: frozenset[tuple[int, int]]) -> Iterator[_File]:
    """Every file that is not hidden; symbolic links are followed, except back into a folder above."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in ancestors:
        return
    ancestors = ancestors | {(status.st_dev, status.st_ino)}
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise CallError(f"folder {str(folder)!r} cannot be listed: {error.strerror}; allow it to be read") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        below = (*parts, os.fsencode(entry.name).decode("utf-8", "backslashreplace"))
        if entry.is_dir():
            yield from _walk(Path(entry.path), below, ancestors)
        elif entry.is_file():
            yield _File(Path(entry.path), below, entry.stat().st_size, regular=True)
        else:  # a broken link is a sample that has vanished; a pipe or a socket must not be opened
            yield _File(Path(entry.path), below, 0, regular=entry.is_symlink())


def _none_found(root: Path, files: list[_File], noun: FileNoun) -> str:
    if not files:
        return f"folder {str(root)!r} is empty; {noun.layout}"
    return (
        f"no {noun.name} in {str(root)!r}, only {len(files)} other files ({files[0].key} is the first); {noun.layout}"
    )


def _split_folders(root: Path, files: list[_File], noun: FileNoun) -> dict[str, str]:
    """Folder to split name, for a folder with splits of its own; empty for any other."""
    tops = {file.parts[0] for file in files if len(file.parts) > 1}
    if not tops or not tops <= SPLIT_FOLDERS.keys():
        return {}
    direct = [file for file in files if len(file.parts) == 1]
    if direct:
        raise CallError(
            f"{str(root)!r} has splits ({', '.join(sorted(tops))}) and {noun.name}s beside them "
            f"({direct[0].key} is the first); move those into a split"
        )
    names = sorted(top for top in tops if SPLIT_FOLDERS[top] == "validation")
    if len(names) > 1:
        raise CallError(f"{str(root)!r} has {' and '.join(names)}, all meaning validation; keep one of them")
    return {top: SPLIT_FOLDERS[top] for top in tops}


def _class_names(root: Path, by_split: dict[str, list[_File]], depth: int, noun: FileNoun) -> list[str] | None:
    members = [file for files in by_split.values() for file in files]
    loose = [file for file in members if len(file.parts) == depth + 1]
    names = sorted({file.parts[depth] for file in members if len(file.parts) > depth + 1})
    if names and loose:
        raise CallError(
            f"{str(root)!r} has class folders ({names[0]} is the first) and {len(loose)} {noun.name}s outside of them "
            f"({loose[0].key} is the first); move those into a class folder"
        )
    return names or None


def _listing(files: list[_File], class_names: list[str] | None, depth: int) -> SplitListing:
    index = {name: number for number, name in enumerate(class_names or [])}
    return SplitListing(
        keys=[file.key for file in files],
        labels=np.array([index.get(file.parts[depth], UNKNOWN_LABEL) for file in files], np.int64),
        num_bytes=np.array([file.num_bytes for file in files], np.int64),
    )


def _stray(file: _File, split_folders: dict[str, str], noun: FileNoun) -> Stray:
    split = split_folders.get(file.parts[0]) if split_folders else "train"
    reason = f"not {noun.article} {noun.name} file name" if file.regular else "not a regular file"
    return Stray(split, file.key, file.num_bytes, reason)
