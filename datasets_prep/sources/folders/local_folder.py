"""Folders of files on this machine: a folder for each class, and above them, if wanted, one for each split."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from datasets_prep.samples.origin import Origin
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import SPLIT_FOLDERS, Catalog, FileNoun, FoundFile, shown_name, split_folders
from walloc_cdl.errors import CallError, system_reason

MAX_DEPTH = 256
"""Folders within folders; what is deeper is damaged, or meant to do damage."""

__all__ = ["SPLIT_FOLDERS", "FileFolder", "FileNoun"]


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
        catalog = Catalog(noun, split_folders)
        for file in _walk(os.fsencode(root), (), frozenset()):
            catalog.add(file)
        super().__init__(root.resolve().name or "root", catalog.listing(str(root)))
        self._root = root
        self._paths = catalog.paths()

    def read(self, split: str, index: int) -> Path:
        """Path of the sample's file."""
        return self._root / os.fsdecode(self._paths[split].raw(index))

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (str(self._root),))


def _walk(folder: bytes, parts: tuple[bytes, ...], ancestors: frozenset[tuple[int, int]]) -> Iterator[FoundFile]:
    """Every file that is not hidden, in the order of the paths; symbolic links are followed, except back upwards."""
    if len(parts) > MAX_DEPTH:
        raise CallError(
            f"folders nested more than {MAX_DEPTH} deep, as {os.fsdecode(folder)[:200]!r}; give a flatter one"
        )
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in ancestors:
            return
        ancestors = ancestors | {(status.st_dev, status.st_ino)}
        entries = sorted(os.scandir(folder), key=lambda entry: shown_name(entry.name))
    except OSError as error:
        raise _unlisted(folder, error) from error
    for entry in entries:
        if entry.name.startswith(b"."):
            continue
        below = (*parts, entry.name)
        target = _target_status(entry)
        if target is None:  # a broken link, or one to itself: a sample that has vanished
            yield FoundFile(below, 0, regular=entry.is_symlink())
        elif stat.S_ISDIR(target.st_mode):
            yield from _walk(entry.path, below, ancestors)
        else:  # a pipe or a socket must not be opened
            yield FoundFile(below, target.st_size, regular=stat.S_ISREG(target.st_mode))


def _unlisted(folder: bytes, error: OSError) -> CallError:
    return CallError(f"folder {os.fsdecode(folder)!r} cannot be listed: {system_reason(error)}; allow it to be read")


def _target_status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    """Of what a link leads to; None where it leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        return None


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    target = _target_status(entry)
    return target is not None and stat.S_ISDIR(target.st_mode)


def _split_folders(root: Path, noun: FileNoun) -> dict[bytes, str]:
    """See `catalog.split_folders`: only so much of each folder is read that a first sample is found."""
    try:
        entries = [(entry.name, _is_folder(entry)) for entry in os.scandir(os.fsencode(root))]
    except OSError as error:
        raise _unlisted(os.fsencode(root), error) from error

    def has_samples(name: bytes) -> bool:
        return any(
            file.is_named(noun.suffixes) for file in _walk(os.path.join(os.fsencode(root), name), (name,), frozenset())
        )

    return split_folders(str(root), entries, has_samples, noun)
