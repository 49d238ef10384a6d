"""Checks and prepares the output folder, which may be new, an unfinished job, a finished data set, or foreign.

Foreign folders are not changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from datasets_prep.folders import locks
from datasets_prep.job.plan import PLAN_NAME, Plan, difference_from_finished, first_difference, load_plan, save_plan
from walloc_cdl.errors import CallError
from walloc_cdl.fields import is_plain_path
from walloc_cdl.files import foreign_names, move_file, remove_file, remove_folder, remove_temporaries, remove_tree
from walloc_cdl.json_files import read_limited
from walloc_cdl.latents import (
    COPY_FOLDER,
    EDIT_NAME,
    LEDGER_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PROVENANCE_NAME,
    WORK_NAME,
    Manifest,
    copy_path,
    load_manifest,
    parse_manifest,
)
from walloc_cdl.linear.operators import FILE_NAME as OPERATORS_NAME
from walloc_cdl.linear.synthesis import FILE_NAME as SYNTHESIS_NAME
from walloc_cdl.planes.levels import FILE_NAME as LEVELS_NAME

CODEC_FOLDER = "codec"

FITTED_NAMES = (SYNTHESIS_NAME, OPERATORS_NAME, LEVELS_NAME)
"""Files of the codec's folder that a job may add to those of the codec."""

EXTENSION_NAME = "extension"
OWN = "own"
"""Name of a codec that was fitted for its data set, and key of the record in its description of the fit."""

OWN_CODEC_NAME = "own-codec"
"""Folder, in the work folder, of such a codec, which is fitted before the job's plan is made."""

DISCARDED_NAME = "discarded.json"
"""Name, in the work folder, of the manifest of a data set that `--restart` is removing."""

ANOTHER_FOLDER = "give another folder, or --restart to remove what is there and start over"


def finished_manifest(folder: Path, plan: Plan, *, restart: bool) -> Manifest | None:
    """Return the manifest of a data set that is already finished under this plan, else None; changes no file.

    Raises `CallError` as `present_manifest` does, and for a data set of another plan, naming the field that differs.
    """
    manifest = present_manifest(folder, restart=restart)
    if manifest is not None:
        require_same(folder, "a finished data set", difference_from_finished(plan, manifest))
    return manifest


def present_manifest(folder: Path, *, restart: bool) -> Manifest | None:
    """Return the manifest of the data set in `folder`, or None if there is none or `restart` removes it.

    Changes no file. Raises `CallError` for a folder that is neither an unfinished job nor a data set, and for a data
    set with an unfinished edit or extension.
    """
    if folder.exists() and not folder.is_dir():
        raise CallError(f"output {str(folder)!r} is a file; give a new or empty folder")
    # In this order, a job that another process begins or completes meanwhile is not taken for other files.
    foreign = _foreign_name(folder)
    is_job = any((folder / WORK_NAME / name).is_file() for name in (PLAN_NAME, DISCARDED_NAME))
    if (folder / WORK_NAME / EDIT_NAME).is_file():
        raise CallError(f"an edit of {folder} was interrupted: run `cdl repair {folder}` first")
    if (folder / MANIFEST_NAME).is_file():
        manifest = load_manifest(folder)
        if restart:
            return None
        if extension_plan(folder) is not None:
            raise CallError(
                f"{folder} holds an unfinished extension; complete it with the command that started it, with --extend"
            )
        return manifest
    if (folder / WORK_NAME / DISCARDED_NAME).is_file() and not restart:
        raise CallError(
            f"{folder} holds a data set that --restart has begun to remove; give --restart again, or another folder"
        )
    if not is_job and foreign:
        raise CallError(
            f"output folder {str(folder)!r} holds {foreign!r}, which is neither a data set nor an unfinished job; "
            "give a new or empty folder"
        )
    return None


def open_output(folder: Path, plan: Plan, *, restart: bool, allow_drift: bool = False) -> Plan:
    """Prepare `folder` for the job, save the plan in its work folder, and return the plan to follow.

    An unfinished job's plan is returned if there is one; with `allow_drift` its versions and device may differ.
    `restart` removes the files of an earlier job, finished or not. Raises `CallError` for a job with another plan,
    naming the field that differs. The caller must hold the folder's lock, and `finished_manifest` must be None.
    """
    work = folder / WORK_NAME
    if restart and (folder / MANIFEST_NAME).is_file():
        load_manifest(folder)
        # Moved first, since the folder is no data set without it; it then lists the files to remove.
        move_file(folder / MANIFEST_NAME, work / DISCARDED_NAME)
    if (work / DISCARDED_NAME).is_file():
        manifest = parse_manifest(
            read_limited(work / DISCARDED_NAME, MAX_MANIFEST_BYTES), origin=str(work / DISCARDED_NAME)
        )
        _remove_files(folder, [*(entry.name for entry in manifest.shards), *manifest.files])
    elif (work / PLAN_NAME).is_file():
        unfinished = load_plan(work)
        if not restart:
            compared = replace(plan, engine=unfinished.engine) if allow_drift else plan
            require_same(folder, "an unfinished job", first_difference(compared, unfinished))
            return unfinished
        _remove_files(folder, _files_of(folder, unfinished))
    _clear_work(work)
    save_plan(work, plan)
    return plan


def remove_work(folder: Path) -> None:
    """Remove the work folder, whose lock the caller must hold, and temporary files of killed writers."""
    clear_temporaries(folder)
    locks.remove_work(folder / WORK_NAME)


def _clear_work(work: Path) -> None:
    """Remove everything from the work folder except for the locks and a codec fitted for the job, and temporary files
    of killed writers beside it.

    The files that identify the folder as a job's are removed last, so that a call after an interruption recognizes it.
    """
    clear_temporaries(work.parent)
    for path in sorted(work.iterdir(), key=lambda path: path.name in (PLAN_NAME, DISCARDED_NAME)):
        if path.name in (locks.FOLDER, OWN_CODEC_NAME):
            continue
        if path.is_dir():
            remove_tree(path)
        else:
            remove_file(path)


def clear_temporaries(folder: Path) -> None:
    """Remove temporary files of killed writers from the folders of a data set."""
    for parent in ("", CODEC_FOLDER, COPY_FOLDER, copy_path(CODEC_FOLDER)):
        remove_temporaries(folder / parent)


def extension_folder(folder: Path) -> Path:
    """Return the folder, in the work folder, in which an extension of the data set makes its shards as a job."""
    return folder / WORK_NAME / EXTENSION_NAME


def extension_plan(folder: Path) -> Plan | None:
    """Return the plan of an unfinished extension, or None."""
    work = extension_folder(folder) / WORK_NAME
    return load_plan(work) if (work / PLAN_NAME).is_file() else None


def require_same(
    folder: object, content: str, difference: tuple[str, object, object] | None, remedy: str = ANOTHER_FOLDER
) -> None:
    """Raise `CallError` for a difference (field, value of this call, stored value) from the folder's content."""
    if difference is not None:
        field, planned, stored = difference
        raise CallError(
            f"{folder} holds {content} with {field} {short_text(stored)}, but this call has {short_text(planned)}; "
            f"{remedy}"
        )


def short_text(value: object) -> str:
    """Return a JSON value as text for a message, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:24]}…{text[-1]}"


def _foreign_name(folder: Path) -> str | None:
    """Return the name of a file that no job leaves before it has written its plan; None for an empty or new folder."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    for name in names:
        if name != WORK_NAME or not (folder / name).is_dir():
            return name
        for inside in foreign_names(folder / name, {locks.FOLDER, OWN_CODEC_NAME}):
            return f"{name}/{inside}"
    return None


def _files_of(folder: Path, plan: Plan) -> list[str]:
    codec = [f"{CODEC_FOLDER}/{name}" for name in (*plan.codec, *FITTED_NAMES)]
    return [*plan.shard_names(os.listdir(folder)), *codec, LEDGER_NAME]


def _remove_files(folder: Path, names: Iterable[str]) -> None:
    for name in (*names, PROVENANCE_NAME, MANIFEST_NAME):
        if is_plain_path(name):
            remove_file(folder / name)
            remove_file(folder / copy_path(name))
    for parent in (CODEC_FOLDER, copy_path(CODEC_FOLDER), COPY_FOLDER):
        remove_folder(folder / parent)
