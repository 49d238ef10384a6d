"""Begins, resumes and ends jobs that derive a folder from a finished data set or download one.

A job never touches a folder that holds anything else.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from datasets_prep.folders.verified_read import read_verified_file
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic
from walloc_cdl.latents import WORK_NAME, FileEntry
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest

STATE_NAME = "state.json"
FETCHED_NAME = "hub"
"""Subfolder of the work folder for incomplete downloads."""


def begin(folder: Path, state: dict[str, Any]) -> None:
    """Begin or resume the job that `state` (plain values) describes in a `folder` that is new, empty, or its own.

    Raises `CallError` for a folder that holds anything else.
    """
    path = folder / WORK_NAME / STATE_NAME
    if folder.exists() and not folder.is_dir():
        raise CallError(f"{folder} is a file; give a new or empty folder")
    if path.is_file():
        if read_json_with_digest(path) != state:
            raise CallError(f"{folder} holds an unfinished job of another data set or form; give a new folder")
        return
    # a job that was killed before it wrote its state leaves an empty work folder
    own_names = set() if foreign_names(path.parent, set()) else {WORK_NAME}
    if foreign := foreign_names(folder, own_names):
        raise CallError(f"{folder} holds other files ({foreign[0]}); give a new or empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, encode_json_with_digest(state))


def copy_files(source: Path, out: Path, files: dict[str, FileEntry]) -> None:
    """Copy listed files, each checked against its hash; raises `DamagedError` for a file that differs."""
    for name, entry in sorted(files.items()):
        data = read_verified_file(source / name, entry)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out / name, data)


def end(folder: Path) -> None:
    """Remove a finished job's state, its downloads in the work folder, and temporary files of killed writers.

    Does nothing if there is no such state, since the work folder may then belong to an edit or an extension.
    """
    work = folder / WORK_NAME
    if not (work / STATE_NAME).is_file():
        return
    for parent in {path.parent for path in folder.rglob(".*.tmp")}:
        if work not in (parent, *parent.parents):
            remove_temporaries(parent)
    shutil.rmtree(work / FETCHED_NAME, ignore_errors=True)
    remove_temporaries(work)
    (work / STATE_NAME).unlink()
    if not any(work.iterdir()):
        work.rmdir()
