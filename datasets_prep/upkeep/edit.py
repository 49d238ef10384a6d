"""Atomic edits of finished data sets, whenever the process ends.

New files are written to a stage, `_work/edit/`. The record `_work/edit.json` commits the edit: without it the data set
is unchanged, and the stage is discarded; with it, the next command on the data set completes the edit, without knowing
the command that began it. In between there is no manifest: renaming shards one by one under a manifest would show
readers a mixture of old and new files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_prep.folders import locks
from datasets_prep.folders.own_records import is_own, with_code
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import Fields, require_path
from walloc_cdl.files import (
    make_folder,
    move_file,
    remove_file,
    remove_temporaries,
    remove_tree,
    sync_folder,
    write_atomic,
)
from walloc_cdl.latents import (
    EDIT_NAME,
    MANIFEST_NAME,
    PROVENANCE_NAME,
    WORK_NAME,
    Manifest,
    copy_listed,
    copy_path,
    load_manifest,
    load_provenance,
    manifest_bytes,
    write_provenance,
)
from walloc_cdl.latents.copies import write_with_parents
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest

FORMAT = "walloc-cdl edit"
FORMAT_VERSION = 1
STAGE_NAME = "edit"


@dataclass(frozen=True)
class Edit:
    """A data set that is locked for an edit, with its current manifest."""

    folder: Path
    manifest: Manifest

    @property
    def stage(self) -> Path:
        """The existing folder for new files, which have the relative paths that they will have in the data set."""
        return self.folder / WORK_NAME / STAGE_NAME

    def note(self, command: str, **facts: Any) -> None:
        """Record this edit in the provenance, with JSON values about it."""
        note_edit(self.folder, self.stage, command, **facts)

    def commit(self, manifest: Manifest, *, clear: Sequence[str] = ()) -> None:
        """Make `manifest` the manifest of the data set: staged files are moved in, files no longer listed are removed.

        `clear`: folders in the work folder that the edit was made from, which are removed with the stage. Raises
        `DamagedError`, without changing the data set, if a folder is in the place of one of its files.
        """
        for name, entry in manifest.files.items():
            if (self.stage / name).is_file():
                copy_listed(self.stage / name, self.stage / copy_path(name), entry)
        if (self.stage / PROVENANCE_NAME).is_file():
            write_with_parents(self.stage, copy_path(PROVENANCE_NAME), (self.stage / PROVENANCE_NAME).read_bytes())
        data = manifest_bytes(manifest)
        write_with_parents(self.stage, copy_path(MANIFEST_NAME), data)
        write_atomic(self.stage / MANIFEST_NAME, data)
        remaining = {*_listed(manifest), PROVENANCE_NAME, MANIFEST_NAME}
        record = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "place": sorted(_files_below(self.stage) - {MANIFEST_NAME}),
            "remove": sorted(path for name in _listed(self.manifest) - remaining for path in (name, copy_path(name))),
            "clear": list(clear),
            "manifest_sha256": sha256_hex(data),
        }
        _require_no_folders(self.folder, [*record["place"], *record["remove"], MANIFEST_NAME])
        write_atomic(self.folder / WORK_NAME / EDIT_NAME, encode_json_with_digest(with_code(record)))
        _apply_record(self.folder, trusted=True)


def _require_no_folders(folder: Path, names: Sequence[str]) -> None:
    """Raise `DamagedError` if there is a folder where an edit writes or removes a file, before it changes anything."""
    for name in names:
        if (folder / name).is_dir():
            raise DamagedError(
                f"{folder / name} is a folder where the data set has a file; remove it, or restore {folder} from a copy"
            )


def note_edit(folder: Path, out: Path, command: str, **facts: Any) -> None:
    """Write the provenance of the data set `folder` into `out`, with one more edit: its time, its command, and `facts`,
    which are JSON values.
    """
    provenance = load_provenance(folder) or {}
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    edits = [*provenance.get("edits", []), {"command": command, "created": created, **facts}]
    write_provenance(out, {**provenance, "edits": edits})


@contextmanager
def editing(folder: Path) -> Iterator[Edit]:
    """Lock a data set for an edit, after completing an interrupted one. Without a commit the data set does not change.

    Raises `CallError` for a folder that is not a data set, that another process works on, or that has an unfinished
    job; `DamagedError` for a damaged manifest.
    """
    work = folder / WORK_NAME
    if not work.is_dir():
        load_manifest(folder)  # do not create a work folder in a folder that is not a data set
    with held(folder):
        recover(folder)
        manifest = load_manifest(folder)
        if unfinished := sorted(path.name for path in work.iterdir() if path.name != locks.FOLDER):
            raise CallError(
                f"{folder} holds an unfinished job ({WORK_NAME}/{unfinished[0]}); end it first, by the same "
                "command that began it"
            )
        edit = Edit(folder, manifest)
        make_folder(edit.stage)
        yield edit


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a data set; raises `CallError` if another process works on it. Uncommitted staged files are discarded."""
    with locks.job_lock(folder / WORK_NAME):
        try:
            yield
        finally:
            _clean_up(folder)


def recover(folder: Path, *, trusted: bool = False) -> bool:
    """Complete an interrupted edit that was committed, or discard one that was not; returns whether it completed one.

    Call it with the folder locked. Raises `CallError` for an edit that this user has not begun, which may come from
    elsewhere with the folder, unless it is `trusted`; `DamagedError` for a damaged record or stage.
    """
    work = folder / WORK_NAME
    if (work / EDIT_NAME).is_file():
        _apply_record(folder, trusted=trusted)
        return True
    remove_temporaries(work)
    remove_tree(work / STAGE_NAME)
    return False


def _apply_record(folder: Path, *, trusted: bool) -> None:
    """Perform the steps of the record that have not been performed yet."""
    path = folder / WORK_NAME / EDIT_NAME
    stage = folder / WORK_NAME / STAGE_NAME
    fields = Fields(read_json_with_digest(path), str(path))
    if (fields.get("format"), fields.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise CallError(f"{path} is not an edit of version {FORMAT_VERSION}; continue with the version that began it")
    place, remove, clear = _paths(fields, "place"), _paths(fields, "remove"), _paths(fields, "clear")
    if not trusted and not is_own(fields.values):
        raise CallError(
            f"{folder} holds an interrupted edit that was not begun here by you, and that would remove or replace "
            f"{len(place) + len(remove)} files; if you trust where the folder comes "
            f"from, `cdl repair {folder} --finish-edit` completes it"
        )
    if (stage / MANIFEST_NAME).is_file():  # the manifest is moved last: without it only cleaning up remains
        if sha256_hex((stage / MANIFEST_NAME).read_bytes()) != fields.sha256("manifest_sha256"):
            raise DamagedError(f"{stage / MANIFEST_NAME} differs from the record; restore {folder} from a copy")
        remove_file(folder / MANIFEST_NAME)
        sync_folder(folder)
        for name in place:
            _move_into_place(stage / name, folder / name)
        for name in remove:
            remove_file(folder / name)
        for parent in {(folder / name).parent for name in (*place, *remove)}:
            if parent.is_dir():
                sync_folder(parent)
        move_file(stage / MANIFEST_NAME, folder / MANIFEST_NAME)
        sync_folder(folder)
    for done in (*(path.parent / name for name in clear), stage):
        remove_tree(done)
    remove_file(path)
    sync_folder(path.parent)


def _paths(fields: Fields, name: str) -> list[str]:
    return [require_path(item, f"{fields.where}, {name}", parts=True) for item in fields.items(name)]


def _move_into_place(staged: Path, target: Path) -> None:
    if staged.is_file():
        make_folder(target.parent)
        move_file(staged, target)
    elif not target.is_file():
        raise DamagedError(f"{staged} is missing, and so is {target}; restore the data set from a copy")


def _clean_up(folder: Path) -> None:
    """Remove the work folder, unless it holds a committed edit or an unfinished job."""
    work = folder / WORK_NAME
    if not work.is_dir() or (work / EDIT_NAME).is_file():
        return
    remove_temporaries(work)
    remove_tree(work / STAGE_NAME)
    if {path.name for path in work.iterdir()} <= {locks.FOLDER}:
        locks.remove_work(work)


def _listed(manifest: Manifest) -> set[str]:
    return {*(entry.name for entry in manifest.shards), *manifest.files}


def _files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
