"""`cdl prepare --archive`: restore the data set of shards that a folder of archives was made from.

The data set is restored to the same bytes or not at all: the description contains the manifest, so every shard is
compared with the SHA-256 of the original one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from datasets_prep.archives.description import (
    DESCRIPTION_NAME,
    Description,
    IndexRow,
    load_description,
    load_index,
    require_archivable,
)
from datasets_prep.folders.derived_folder import copy_files, derive
from datasets_prep.folders.verified_read import matches_entry
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import (
    MANIFEST_NAME,
    PROVENANCE_NAME,
    Manifest,
    ShardEntry,
    load_manifest,
    load_provenance,
    write_manifest,
    write_shard,
)
from walloc_cdl.latents.archive import archive_from_bytes
from walloc_cdl.machine import cpu_count


def import_archives(folder: Path, out: Path, *, on_samples: Callable[[int, int], object] | None = None) -> Manifest:
    """Restore the data set of the archives in `folder` to `out`: the same shards, byte for byte, and manifest.

    The same call again resumes an interrupted one. Raises `CallError` for a folder that does not hold archives and for
    an `out` that holds anything else or that another process works on, `DamagedError` for archives that differ from the
    exported ones.
    """
    description = load_description(folder)
    manifest = description.manifest
    require_archivable(folder, manifest)

    def find() -> Manifest | None:
        if not (out / MANIFEST_NAME).is_file():
            return None
        if load_manifest(out).to_json() != manifest.to_json():
            raise CallError(f"{out} holds another data set than {folder} was made from; give a new folder")
        return manifest

    state = {"job": "import", "archives": sha256_hex((folder / DESCRIPTION_NAME).read_bytes())}
    return derive(out, state, find, lambda: _import(folder, out, description, on_samples))


def _import(
    folder: Path, out: Path, description: Description, on_samples: Callable[[int, int], object] | None
) -> Manifest:
    """Restore all files and, last, the manifest, which is returned."""
    manifest = description.manifest
    total = sum(summary.num_samples for summary in manifest.splits.values())
    done = 0
    with ThreadPoolExecutor(cpu_count()) as pool:
        for entry in manifest.shards:
            if not matches_entry(out / entry.name, entry):
                _import_shard(folder, out, description, entry, pool)
            done += entry.num_samples
            if on_samples:
                on_samples(done, total)
    copy_files(folder, out, manifest.files)
    if load_provenance(folder) is not None:
        write_atomic(out / PROVENANCE_NAME, (folder / PROVENANCE_NAME).read_bytes())
    write_manifest(out, manifest)
    return manifest


def _import_shard(
    folder: Path, out: Path, description: Description, entry: ShardEntry, pool: ThreadPoolExecutor
) -> None:
    manifest = description.manifest
    rows = load_index(folder, entry.name, description.indices[entry.name])
    labeled = {row.label is not None for row in rows}
    if len(rows) != entry.num_samples or labeled - {manifest.label_kind == "class"}:
        raise DamagedError(
            f"{folder}: the index of {entry.name} has {len(rows)} samples, expected {entry.num_samples}, "
            f"all with labels of kind {manifest.label_kind}; {REMEDY}"
        )
    codes = list(pool.map(lambda row: _codes(folder, row, manifest), rows))
    labels = np.array([row.label for row in rows], np.int64) if manifest.label_kind == "class" else None
    written = write_shard(
        out,
        entry.name,
        spec=manifest.spec,
        split=entry.split,
        codes=np.stack(codes) if codes else np.empty((0, *manifest.latent_shape), np.uint8),
        labels=labels,
        keys=[row.key for row in rows],
    )
    if written != entry:
        raise DamagedError(
            f"{out / entry.name}: SHA-256 is {written.sha256[:12]}…, expected {entry.sha256[:12]}… as in the exported "
            f"data set; {REMEDY}"
        )


def _codes(folder: Path, row: IndexRow, manifest: Manifest) -> np.ndarray:
    path = folder / row.path
    if not path.is_file():
        raise DamagedError(f"{path}: missing, though the index lists it; {REMEDY}")
    archive = archive_from_bytes(path.read_bytes(), origin=str(path))
    if archive.info.spec != manifest.spec or archive.codes.shape != manifest.latent_shape:
        raise DamagedError(f"{path}: codec or shape of the codes differ from the data set's; {REMEDY}")
    return archive.codes
