"""Folders as values, to be compared."""

from __future__ import annotations

from pathlib import Path


def all_files(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """The same of a data set, without the provenance, which says when it was made."""
    return {path: data for path, data in all_files(folder).items() if not path.endswith("provenance.json")}
