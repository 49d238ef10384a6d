"""Writing whole files so that a reader, or a killed writer, never meets half of one."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def write_atomic(path: Path | str, data: bytes) -> None:
    """Put `data` at `path` so that at every moment either the old file or all of the new one is there."""
    with replacement(path) as file:
        file.write(data)


@contextmanager
def replacement(path: Path | str) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends, and vanishes when it fails.

    A unique temporary name in the same folder, so that two writers of the same file cannot mix; sync
    before the rename, so that the name never points at missing bytes; sync of the folder after it, so
    that the rename itself survives a power cut. What is written may be read again through the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:  # a failed write does not say of what
            error.filename = str(path)
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what a killed `write_atomic` left.

    >>> is_temporary(".results.json.0123456789abcdef.tmp")
    True
    """
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder; nothing where there is no folder."""
    for path in folder.glob(".*.tmp"):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)


def foreign_names(folder: Path, ours: set[str]) -> list[str]:
    """What lies in a folder and is neither one of `ours` nor a leftover of a killed writer; none without a folder."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name not in ours and not is_temporary(path.name))


def sync_folder(folder: Path) -> None:
    """Make sure that what was renamed or removed in a folder stays so after a power cut."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
