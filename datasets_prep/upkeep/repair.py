"""`cdl repair`: restores a data set from the copies of its files and, for shards, from the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets_prep.folders import locks
from datasets_prep.folders.verified_read import matches_entry
from datasets_prep.job.output import clear_temporaries
from datasets_prep.upkeep.edit import STAGE_NAME, held, recover
from datasets_prep.upkeep.encode_again import RepairConfig, encode_again
from datasets_prep.upkeep.try_again import TriedAgain, try_again
from walloc_cdl.addresses import local_path
from walloc_cdl.errors import DamagedError
from walloc_cdl.files import make_folder
from walloc_cdl.json_files import MAX_JSON_BYTES, read_limited
from walloc_cdl.latents import (
    EDIT_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PROVENANCE_NAME,
    WORK_NAME,
    FileEntry,
    Manifest,
    copy_listed,
    copy_path,
    load_manifest,
    manifest_from_json,
    parse_manifest,
)
from walloc_cdl.latents.copies import write_with_parents
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest


@dataclass
class Repaired:
    """The result of a repair."""

    edit_ended: bool = False
    """Whether an interrupted edit was completed."""
    restored: list[str] = field(default_factory=list)
    """Relative paths of restored files, and of restored copies."""
    encoded: list[str] = field(default_factory=list)
    """Names of shards that were encoded again."""
    tried_again: TriedAgain = field(default_factory=TriedAgain)
    """What became of the quarantined samples."""
    problems: list[str] = field(default_factory=list)
    """One line for each file that could not be repaired."""


def repair(
    folder: Path | str,
    config: RepairConfig | None = None,
    *,
    finish_edit: bool = False,
    on_shard: Callable[[int, int], object] | None = None,
) -> Repaired:
    """Complete an interrupted edit, restore files from their copies and copies from their files, and encode damaged
    shards again. With a `config`, quarantined samples are tried again once the data set is whole; those that can be
    used now are added in further shards.

    A restored file equals its manifest entry byte for byte. Without a `config`, which names the source, shards are only
    checked. `on_shard` is called after each shard with the number of checked shards and of all shards. An edit that
    this user has not begun is completed only with `finish_edit`, since the folder may come from elsewhere.

    Raises `CallError` for a folder that is not a data set, that has links in it or that another process works on, for
    an edit that is not completed, and for a source that the data set was not made from; `DamagedError` if neither the
    manifest nor its copy is intact.
    """
    folder = local_path(folder)
    _require_data_set(folder)
    with held(folder):
        report = Repaired(edit_ended=recover(folder, trusted=finish_edit))
        manifest = _restore_manifest(folder, report)
        for name, entry in manifest.files.items():
            _restore_listed_file(folder, name, entry, report)
        _restore_provenance(folder, report)
        damaged = []
        for number, shard in enumerate(manifest.shards, start=1):
            if not matches_entry(folder / shard.name, shard):
                damaged.append(shard)
            if on_shard:
                on_shard(number, len(manifest.shards))
        if damaged and config is not None:
            make_folder(folder / WORK_NAME / STAGE_NAME)
            report.encoded, problems = encode_again(folder, manifest, damaged, config)
            report.problems += problems
        elif damaged:
            report.problems += [
                f"{folder / shard.name}: damaged or missing; `cdl repair {folder} --source SOURCE` encodes it again"
                for shard in damaged
            ]
        if config is not None and not report.problems:
            report.tried_again = try_again(folder, manifest, config)
        clear_temporaries(folder)
    return report


def _require_data_set(folder: Path) -> None:
    """Raise the error of `load_manifest` for a folder that cannot be repaired, because it is not a data set."""
    names = [MANIFEST_NAME, f"{WORK_NAME}/{EDIT_NAME}", copy_path(MANIFEST_NAME)]
    found = [name for name in names if (folder / name).is_file()]
    work = folder / WORK_NAME
    unfinished = work.is_dir() and any(path.name not in (locks.FOLDER, STAGE_NAME) for path in work.iterdir())
    if not found or (found == names[2:] and unfinished):  # a job writes the copy just before the manifest
        load_manifest(folder)


def _restore_manifest(folder: Path, report: Repaired) -> Manifest:
    """Restore the manifest or its copy from the other; returns the manifest."""

    def parse(data: bytes, origin: str) -> dict[str, Any]:
        return parse_manifest(data, origin=origin).to_json()

    fields = _restore_json(folder, MANIFEST_NAME, report, parse)
    if fields is None:
        raise DamagedError(
            f"neither {folder / MANIFEST_NAME} nor {folder / copy_path(MANIFEST_NAME)} is intact; prepare the data "
            "set again"
        )
    return manifest_from_json(fields, origin=str(folder / MANIFEST_NAME))


def _restore_provenance(folder: Path, report: Repaired) -> None:
    if not any((folder / name).is_file() for name in (PROVENANCE_NAME, copy_path(PROVENANCE_NAME))):
        return
    if (
        _restore_json(folder, PROVENANCE_NAME, report, lambda data, origin: parse_json_with_digest(data, origin=origin))
        is None
    ):
        report.problems.append(
            f"{folder / PROVENANCE_NAME}: damaged, and so is its copy; remove both: they only record when and with "
            "what the data set was made"
        )


def _restore_json(
    folder: Path, name: str, report: Repaired, parse: Callable[[bytes, str], dict[str, Any]]
) -> dict[str, Any] | None:
    """Restore a JSON file with digest or its copy from the other; returns its fields, or None if both are damaged."""
    found: dict[str, bytes] = {}
    parsed: list[dict[str, Any]] = []
    for path in (name, copy_path(name)):
        if (folder / path).is_file():
            try:
                found[path] = read_limited(
                    folder / path, MAX_MANIFEST_BYTES if name == MANIFEST_NAME else MAX_JSON_BYTES
                )
                parsed.append(parse(found[path], str(folder / path)))
            except DamagedError:
                continue
    if not parsed:
        return None
    data = encode_json_with_digest(parsed[0])
    for path in (copy_path(name), name):  # the manifest must be written last
        if found.get(path) != data:
            write_with_parents(folder, path, data)
            report.restored.append(path)
    return parsed[0]


def _restore_listed_file(folder: Path, name: str, entry: FileEntry, report: Repaired) -> None:
    paths = (name, copy_path(name))
    intact = [path for path in paths if matches_entry(folder / path, entry)]
    if not intact:
        report.problems.append(f"{folder / name}: damaged, and so is its copy; prepare the data set again")
        return
    for path in paths:
        if path not in intact:
            copy_listed(folder / intact[0], folder / path, entry)
            report.restored.append(path)
