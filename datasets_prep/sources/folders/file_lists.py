"""Expands patterns of paths and URLs (braces, globs, folders) into files, and assigns the files to splits."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from datasets_prep.samples.locations import as_os_errors, file_system, last_part
from datasets_prep.sources.core.split_names import in_order, known_split, named_split, resembled_split, two_readings
from walloc_cdl.addresses import WEB_SCHEMES, is_url, url_scheme
from walloc_cdl.errors import CallError

MAX_FILES = 1_000_000
"""Limit for braces, which can name any number of files."""

_BRACE = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def expand(pattern: str, suffix: str, file_kind: str) -> list[str]:
    """Return the paths or URLs that a pattern matches: braces in the order written, globs and folders sorted.

    A folder stands for the files in it that end in `suffix` and are not hidden. `file_kind` names them in messages.
    Raises `CallError` if nothing matches.
    """
    found: list[str] = []
    parts = expand_braces(pattern)
    for part in parts:
        matches = _matches(part, suffix)
        if not matches and len(parts) > 1 and not glob.has_magic(part):
            raise CallError(f"{part!r} does not exist; restore it, or omit it from the pattern")
        found += matches
    if not found:
        raise CallError(f"no file matches {pattern!r}; give the path or glob pattern of {file_kind}")
    return list(dict.fromkeys(found))


def expand_braces(pattern: str) -> list[str]:
    """Expand the braces of a pattern as a shell does.

    >>> expand_braces("x-{08..10}.{tar,zip}")
    ['x-08.tar', 'x-08.zip', 'x-09.tar', 'x-09.zip', 'x-10.tar', 'x-10.zip']
    """
    pieces: list[Sequence[str]] = []
    end, count = 0, 1
    for brace in _BRACE.finditer(pattern):
        choices = _choices(brace)
        count *= len(choices)
        if count > MAX_FILES:
            raise CallError(f"{pattern!r} names more than {MAX_FILES:,} files; give a glob pattern, or several sources")
        pieces += [(pattern[end : brace.start()],), choices]
        end = brace.end()
    return ["".join(parts) for parts in itertools.product(*pieces, (pattern[end:],))]


def by_split(paths: list[str], splits: bool | None = None) -> dict[str, list[str]]:
    """Group files by split if all names begin with a split's name, such as `train-00000.tar`; else all are `train`.

    `splits`: whether all names begin with a split's name, None to decide by the names. Raises `CallError` for names
    that leave it open: some resemble a split other than `train`, but not all are names of splits.
    """
    if splits is False:
        return {"train": paths}
    stems = [re.split(r"[-_.]", last_part(path))[0] for path in paths]
    names = list(dict.fromkeys(stems))
    if splits is None and not all(map(known_split, names)):
        if {resembled_split(name) for name in names} <= {"train", None}:
            return {"train": paths}
        raise two_readings(f"{folder_name(paths[0])!r} has files", names, "one split, train")
    found: dict[str, list[str]] = {}
    for path, stem in zip(paths, stems, strict=True):
        found.setdefault(named_split(stem, repr(path)), []).append(path)
    return {split: found[split] for split in in_order(found)}


def short_names(paths: list[str]) -> list[str]:
    """Return a name for each file, without its location: the last parts of its path, as many as make names unique."""
    depth = 1
    while True:
        names = ["/".join(path.replace(os.sep, "/").split("/")[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)) or depth > 64:
            return names
        depth += 1


def folder_name(path: str) -> str:
    """Return the name of the folder that contains a file, as the name of a source made of such files."""
    if is_url(path):
        return last_part(path.rstrip("/").rpartition("/")[0]) or "root"
    return Path(path).resolve().parent.name or "root"


def _choices(brace: re.Match[str]) -> Sequence[str]:
    limits = _RANGE.fullmatch(brace[1])
    if limits is None:
        return brace[1].split(",") if "," in brace[1] else (brace[0],)
    first, last = int(limits[1]), int(limits[2])
    if last - first >= MAX_FILES:
        raise CallError(f"{brace[0]} names more than {MAX_FILES:,} files; give a glob pattern, or several sources")
    width = len(limits[1]) if limits[1].startswith("0") or len(limits[1]) == len(limits[2]) else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def _matches(pattern: str, suffix: str) -> list[str]:
    if not is_url(pattern):
        path = Path(pattern)
        if path.is_dir():
            # hidden files include macOS's `._x.tar`
            names = (file for file in path.glob(f"*{suffix}") if not file.name.startswith("."))
            return sorted(str(file) for file in names if file.is_file())
        if path.is_file():  # its name may contain brackets
            return [str(path)]
        return sorted(found for found in glob.glob(str(path), recursive=True) if os.path.isfile(found))
    if url_scheme(pattern) in WEB_SCHEMES:
        return [pattern]  # http servers cannot list files
    system, path = file_system(pattern)
    try:
        with as_os_errors():
            folder = system.isdir(path)
            found = system.glob(f"{path.rstrip('/')}/*{suffix}" if folder else path)
    except OSError as error:
        raise CallError(f"{pattern!r} cannot be listed: {error}; check the URL and your access to it") from error
    return sorted(system.url(name) for name in found)
