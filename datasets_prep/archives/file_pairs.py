"""Which file becomes which: one to one, or a folder's files to files of a folder laid out like it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class FilePair:
    """A file to read and the file to make of it."""

    source: Path
    target: Path


def pair_files(source: Path, out: Path, suffixes: Iterable[str], rename: Callable[[str], str]) -> list[FilePair]:
    """The pairs of a call, in the order of their paths; a folder's hidden and other files are left out.

    Raises `CallError` for a missing source, a folder where a file was expected or the reverse, a folder
    without files of these suffixes, two files that would become one, and `out` inside of `source`.
    """
    if source.is_file():
        if out.is_dir():
            raise CallError(f"{out} is a folder; name the file to write")
        if out.exists() and out.samefile(source):
            raise CallError(f"{out} is the file that is read; name another to write")
        if not out.parent.is_dir():
            raise CallError(f"{out} cannot be written: there is no folder {out.parent}; make it first")
        return [FilePair(source, out)]
    if not source.is_dir():
        raise CallError(f"{source} does not exist; name a file, or a folder of files")
    if out.exists() and not out.is_dir():
        raise CallError(f"{out} is a file; name a folder for the files of {source}")
    if out.resolve().is_relative_to(source.resolve()):
        raise CallError(f"{out} lies in {source}, whose files are read; name a folder elsewhere")
    known = frozenset(suffixes)
    pairs = [FilePair(source / name, out / rename(name.as_posix())) for name in _files(source, known)]
    if not pairs:
        raise CallError(f"no file in {source} ends in one of {', '.join(sorted(known))}; name another folder")
    seen: dict[Path, Path] = {}
    for pair in pairs:
        if other := seen.get(pair.target):
            raise CallError(f"{other} and {pair.source} would both become {pair.target}; rename one of them")
        seen[pair.target] = pair.source
    return pairs


def _files(root: Path, suffixes: frozenset[str]) -> list[Path]:
    """Paths below `root` of regular files that are not hidden, sorted."""
    names = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(name for name in names if not any(part.startswith(".") for part in name.parts))
