"""The output folder: new, an unfinished job of ours, a finished data set, or something foreign, which is left alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from datasets_prep.plan import PLAN_NAME, Plan, difference_from_finished, first_difference, load_plan, save_plan
from walloc_cdl.errors import CallError
from walloc_cdl.fields import is_plain_path
from walloc_cdl.files import is_temporary, remove_temporaries
from walloc_cdl.latents import MANIFEST_NAME, PROVENANCE_NAME, WORK_NAME, Manifest, load_manifest

CODEC_FOLDER = "codec"
LEDGER_NAME = "ledger.parquet"


def open_output(folder: Path, plan: Plan, *, restart: bool) -> Manifest | None:
    """Make `folder` ready for the job, with its plan in the work folder; a manifest means that it is done already.

    `restart` removes what an earlier job left, finished or not. Raises `CallError` for a folder that
    holds anything else, or a job or data set with another plan, naming the field that differs.
    """
    if folder.exists() and not folder.is_dir():
        raise CallError(f"output {str(folder)!r} is a file; give a new or empty folder")
    work = folder / WORK_NAME
    if (folder / MANIFEST_NAME).is_file():
        manifest = load_manifest(folder)
        if not restart:
            _require_same(folder, "a finished data set", difference_from_finished(plan, manifest))
            remove_work(folder)
            return manifest
        (folder / MANIFEST_NAME).unlink()  # first of all: without it, this is no data set any more
        _remove_files(folder, [*(entry.name for entry in manifest.shards), *manifest.files])
    elif (work / PLAN_NAME).is_file():
        unfinished = load_plan(work)
        if not restart:
            _require_same(folder, "an unfinished job", first_difference(plan, unfinished))
            return None
        _remove_files(folder, _files_of(unfinished))
    elif found := _foreign(folder):
        raise CallError(
            f"output folder {str(folder)!r} holds {found!r}, which is no data set and no unfinished job; "
            "give a new or empty folder"
        )
    remove_work(folder)
    work.mkdir(parents=True)
    save_plan(work, plan)
    return None


def remove_work(folder: Path) -> None:
    """Remove the work folder and what killed writers left."""
    if (folder / WORK_NAME).is_dir():
        shutil.rmtree(folder / WORK_NAME)
    for parent in (folder, folder / CODEC_FOLDER):
        remove_temporaries(parent)


def _require_same(folder: Path, what: str, difference: tuple[str, object, object] | None) -> None:
    if difference is not None:
        field, mine, theirs = difference
        raise CallError(
            f"output folder {str(folder)!r} holds {what} with {field} {_short(theirs)}, but this call has "
            f"{_short(mine)}; give another folder, or --restart to remove what is there and begin anew"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:24]}…{text[-1]}"


def _foreign(folder: Path) -> str | None:
    """Name of something that no job of ours has left before its plan was written; None for an empty or new folder."""
    if not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        inside = list(path.iterdir()) if path.name == WORK_NAME and path.is_dir() else [path]
        for entry in inside:
            if not (entry.parent.name == WORK_NAME and is_temporary(entry.name)):
                return entry.relative_to(folder).as_posix()
    return None


def _files_of(plan: Plan) -> list[str]:
    codec = [f"{CODEC_FOLDER}/{name}" for name in (*plan.codec, "synthesis.safetensors")]
    return [*(shard.name for shard in plan.shards), *codec, LEDGER_NAME]


def _remove_files(folder: Path, names: Iterable[str]) -> None:
    for name in (*names, PROVENANCE_NAME):
        if is_plain_path(name):
            (folder / name).unlink(missing_ok=True)
    if (folder / CODEC_FOLDER).is_dir() and not any((folder / CODEC_FOLDER).iterdir()):
        (folder / CODEC_FOLDER).rmdir()
