"""Local folders of files: one folder per class, optionally inside one folder per split."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import ReadFailure, read_failure
from datasets_prep.sources.core.options import optional_flag, split_options
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import Catalog, FileKind, FoundFile, display_name, split_folders
from walloc_cdl.addresses import local_path
from walloc_cdl.errors import CallError, system_reason

MAX_DEPTH = 256
"""Limit for nested folders; a deeper tree is damaged or malicious."""


class FileFolder(Source):
    """The files of one kind in a folder and its subfolders, in the order of their paths. Each file is one sample.

    The direct subfolders that have such files are splits if all of them have names of splits (see `split_names`), and
    classes of one split, `train`, if none of them resembles a split. Within a split the first folder is the class;
    the label of files outside of class folders is unknown. Hidden files are ignored; files with another suffix, and
    files beside the splits, are stray files.

    Raises `CallError` for a missing folder, one without such files, and one whose subfolders could be splits as well as
    classes.
    """

    file_kind: FileKind

    def __init__(self, folder: str | os.PathLike[str], *, splits: bool | None = None) -> None:
        """`splits`: whether the direct subfolders are splits; None to decide by their names."""
        root, file_kind = local_path(folder), self.file_kind
        if not root.is_dir():
            found = "is a file" if root.exists() else "does not exist"
            found = "is a zip archive: unpack it" if is_zip(root) else found
            raise CallError(
                f"{file_kind.name} folder {str(root)!r} {found}; give the path of a folder of {file_kind.name}s"
            )
        split_folders = _split_folders(root, file_kind, splits)
        catalog = Catalog(file_kind, split_folders)
        for file in _walk(os.fsencode(root), (), frozenset()):
            catalog.add(file)
        super().__init__(root.resolve().name or "root", catalog.listing(str(root)))
        self._root = root
        self._paths = catalog.paths()

    def read(self, split: str, index: int) -> Path:
        """Return the path of the sample's file."""
        return self._root / os.fsdecode(self._paths[split].raw(index))

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (str(self._root),))


def list_files(folder: Path, suffixes: frozenset[str]) -> tuple[list[Path], int]:
    """Return the files below a folder whose names end in one of `suffixes`, in the order of their paths.

    Hidden files are ignored; the second value is the number of other files. Raises `CallError` for a folder that
    cannot be listed.
    """
    found, others = [], 0
    for file in _walk(os.fsencode(folder), (), frozenset()):
        if file.has_suffix(suffixes):
            found.append(folder / os.fsdecode(b"/".join(file.parts)))
        else:
            others += 1
    return found, others


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a file whose name ends in `.zip`."""
    return Path(path).suffix.lower() == ".zip" and Path(path).is_file()


def folder_options(text: str) -> tuple[str, bool | None]:
    """Split `PATH[?splits=0|1]` into the path and the option, None if it is omitted.

    The name of an existing folder or zip archive may contain a question mark. Raises `CallError` for other options.
    """
    if Path(text).is_dir() or is_zip(text):
        return text, None
    path, options = split_options(text, ("splits",))
    return path, optional_flag(options, "splits")


def _walk(folder: bytes, parts: tuple[bytes, ...], ancestors: frozenset[tuple[int, int]]) -> Iterator[FoundFile]:
    """Yield every file that is not hidden, in the order of the paths; follows symbolic links, except to ancestors."""
    if len(parts) > MAX_DEPTH:
        raise CallError(
            f"folders nested more than {MAX_DEPTH} deep, such as {os.fsdecode(folder)[:200]!r}; use a flatter tree"
        )
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in ancestors:
            return
        ancestors = ancestors | {(status.st_dev, status.st_ino)}
        entries = sorted(os.scandir(folder), key=lambda entry: display_name(entry.name))
    except OSError as error:
        raise _unlisted(folder, error) from error
    for entry in entries:
        if entry.name.startswith(b"."):
            continue
        below = (*parts, entry.name)
        try:
            target = _target_status(entry)
        except OSError as error:
            raise _unexamined(entry.path, error) from error
        if target is None:  # a broken or circular link counts as a sample that cannot be read
            yield FoundFile(below, 0, regular=True)
        elif stat.S_ISDIR(target.st_mode):
            yield from _walk(entry.path, below, ancestors)
        else:  # pipes and sockets must not be opened
            yield FoundFile(below, target.st_size, regular=stat.S_ISREG(target.st_mode))


def _unlisted(folder: bytes, error: OSError) -> CallError:
    return CallError(f"folder {os.fsdecode(folder)!r} cannot be listed: {system_reason(error)}; allow reading it")


def _unexamined(path: bytes, error: OSError) -> CallError:
    return CallError(
        f"{os.fsdecode(path)!r} is listed in its folder, but {system_reason(error)}; check the source, and try again"
    )


def _target_status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    """Return the status of an entry, or of a link's target; None for a broken or circular link.

    Raises `OSError` for an entry that the folder has, but the system cannot examine.
    """
    try:
        return entry.stat()
    except OSError as error:
        if entry.is_symlink() and read_failure(error) is ReadFailure.REFUSED:
            return None
        raise


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    target = _target_status(entry)
    return target is not None and stat.S_ISDIR(target.st_mode)


def _split_folders(root: Path, file_kind: FileKind, splits: bool | None) -> dict[bytes, str]:
    """See `catalog.split_folders`. Each folder is read only until its first sample is found."""
    try:
        entries = [(entry.name, _is_folder(entry)) for entry in os.scandir(os.fsencode(root))]
    except OSError as error:
        raise _unlisted(os.fsencode(root), error) from error

    def has_samples(name: bytes) -> bool:
        return any(
            file.has_suffix(file_kind.suffixes)
            for file in _walk(os.path.join(os.fsencode(root), name), (name,), frozenset())
        )

    return split_folders(str(root), entries, has_samples, file_kind, splits)
