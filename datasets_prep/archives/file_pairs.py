"""Input and output paths: of a single file, or of all files of a folder, whose structure the output folder has too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class FilePair:
    """A file to read and the file to write."""

    source: Path
    target: Path


def pair_files(source: Path, out: Path, suffixes: Iterable[str], rename: Callable[[str], str]) -> list[FilePair]:
    """Return the pairs of a call, sorted by path; hidden files and files of other suffixes are omitted.

    Raises `CallError` for a missing source, a folder where a file was expected or the reverse, a folder
    without files of these suffixes, two files with the same output path, and `out` inside of `source`.
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
    """Return the sorted paths, relative to `root`, of regular files that are not hidden."""
    names = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(name for name in names if not any(part.startswith(".") for part in name.parts))
