"""Begins, resumes and ends jobs that derive a folder from a finished data set or download one.

A job never touches a folder that holds anything else, and holds the lock of its folder while it works there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from datasets_prep.folders import locks
from datasets_prep.folders.verified_read import read_verified_file
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names, make_folder, remove_file, remove_temporaries, remove_tree, write_atomic
from walloc_cdl.latents import WORK_NAME, FileEntry
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest

STATE_NAME = "state.json"
FETCHED_NAME = "hub"
"""Subfolder of the work folder for incomplete downloads."""

Result = TypeVar("Result")


def derive(
    folder: Path, state: dict[str, Any], find: Callable[[], Result | None], make: Callable[[], Result]
) -> Result:
    """Return the result of the job that `state` (plain values) describes in a `folder` that is new, empty, or its own.

    `find` returns the result of a finished job, or None, and raises `CallError` for that of another job; `make` begins
    the job or resumes it, and returns its result. Raises `CallError` for a folder that holds anything else, has links
    in it, or is being worked on by another process.
    """
    work = folder / WORK_NAME
    if folder.exists() and not folder.is_dir():
        raise CallError(f"{folder} is a file; give a new or empty folder")
    # In this order, a job that another process begins or completes meanwhile is not taken for other files.
    foreign, has_state, found = _foreign_name(folder), (work / STATE_NAME).is_file(), find()
    if found is not None and not _is_to_be_ended(work):
        return found
    if found is None and not has_state:
        _require_nothing(folder, foreign)
    with locks.job_lock(work):
        try:
            # again: before this call got the lock, another one may have begun or completed a job
            result = find()
            if result is None:
                if not _has_begun(folder, state):
                    _require_nothing(folder, _foreign_name(folder))
                    write_atomic(work / STATE_NAME, encode_json_with_digest(state))
                result = make()
            _end(folder)
        finally:
            if not foreign_names(work, {locks.FOLDER}):
                locks.remove_work(work)
        return result


def _is_to_be_ended(work: Path) -> bool:
    """Return whether a finished job was killed before it removed its work folder, which is not of another job since."""
    return (work / STATE_NAME).is_file() or (work.is_dir() and not foreign_names(work, {locks.FOLDER}))


def _has_begun(folder: Path, state: dict[str, Any]) -> bool:
    """Return whether this job has begun in a folder; raises `CallError` if another one has."""
    path = folder / WORK_NAME / STATE_NAME
    if not path.is_file():
        return False
    if read_json_with_digest(path) != state:
        raise CallError(f"{folder} holds an unfinished job of another data set or form; give a new folder")
    return True


def _foreign_name(folder: Path) -> str | None:
    """Return the name of a file that no job has left before it wrote its state, which leaves nothing but locks."""
    own_names = set() if foreign_names(folder / WORK_NAME, {locks.FOLDER}) else {WORK_NAME}
    return next(iter(foreign_names(folder, own_names)), None)


def _require_nothing(folder: Path, foreign: str | None) -> None:
    if foreign is not None:
        raise CallError(f"{folder} holds other files ({foreign}); give a new or empty folder")


def copy_files(source: Path, out: Path, files: dict[str, FileEntry]) -> None:
    """Copy listed files, each checked against its hash; raises `DamagedError` for a file that differs."""
    for name, entry in sorted(files.items()):
        data = read_verified_file(source / name, entry)
        make_folder((out / name).parent)
        write_atomic(out / name, data)


def _end(folder: Path) -> None:
    """Remove a finished job's state, its downloads in the work folder, and temporary files of killed writers.

    Does nothing if there is no such state, since the work folder may then belong to an edit or an extension.
    """
    work = folder / WORK_NAME
    if not (work / STATE_NAME).is_file():
        return
    for parent in {path.parent for path in folder.rglob(".*.tmp")}:
        if work not in (parent, *parent.parents):
            remove_temporaries(parent)
    remove_tree(work / FETCHED_NAME)
    remove_temporaries(work)
    remove_file(work / STATE_NAME)
