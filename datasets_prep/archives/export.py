"""`cdl export --archive`: convert a data set of shards to a folder of archives, one file per sample."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from datasets_prep.archives.description import (
    DESCRIPTION_NAME,
    Description,
    IndexRow,
    index_bytes,
    index_path,
    load_description,
    require_archivable,
)
from datasets_prep.folders.derived_folder import copy_files, derive
from datasets_prep.folders.verified_read import read_verified_shard
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError
from walloc_cdl.fields import sanitize_path_part
from walloc_cdl.files import make_folder, write_atomic
from walloc_cdl.latents import (
    PROVENANCE_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    load_manifest,
    load_provenance,
)
from walloc_cdl.latents.archive import Container, archive_to_bytes, default_container, find_container
from walloc_cdl.machine import cpu_count
from walloc_cdl.spec import LatentSpec

OnSamples = Callable[[int, int], object]
"""Called with (done, total) numbers of samples."""

UNLABELED = "_unlabeled"
STEM_LENGTH = 60


def export_archives(
    folder: Path, out: Path, *, container: str | None = None, on_samples: OnSamples | None = None
) -> Description:
    """Write every sample of the data set `folder` as an archive in `out`; the same call again resumes it.

    A sample becomes SPLIT/CLASS/NUMBER-NAME.SUFFIX. Everything else that is needed to restore the same shards is
    written too, and `archives.json` last. Raises `CallError` for a folder that is not a data set and for an `out` that
    holds anything else or that another process works on, `DamagedError` for damaged samples.
    """
    manifest = load_manifest(folder)
    picture_format = find_container(container) if container else default_container(manifest.spec.kind)
    require_archivable(folder, manifest)

    def find() -> Description | None:
        if not (out / DESCRIPTION_NAME).is_file():
            return None
        found = load_description(out)
        if found.container != picture_format.name or found.manifest.to_json() != manifest.to_json():
            raise CallError(f"{out} holds archives of another data set or container; give a new folder")
        return found

    state = {"job": "export", "container": picture_format.name, "manifest": manifest.digest()}
    return derive(out, state, find, lambda: _export(folder, out, manifest, picture_format, on_samples))


def _export(
    folder: Path, out: Path, manifest: Manifest, container: Container, on_samples: OnSamples | None
) -> Description:
    """Write all archives and, last, the description, which is returned."""
    total = sum(summary.num_samples for summary in manifest.splits.values())
    indices: dict[str, FileEntry] = {}
    done = 0
    starts = dict.fromkeys(manifest.splits, 0)
    with ThreadPoolExecutor(cpu_count()) as pool:
        for entry in manifest.shards:
            path = out / index_path(entry.name)
            if not path.is_file():
                rows = _export_shard(folder, out, manifest, entry, container, starts[entry.split], pool)
                make_folder(path.parent)
                write_atomic(path, index_bytes(entry.name, rows))  # after its archives: it marks them as complete
            data = path.read_bytes()
            indices[entry.name] = FileEntry(len(data), sha256_hex(data))
            starts[entry.split] += entry.num_samples
            done += entry.num_samples
            if on_samples:
                on_samples(done, total)
    copy_files(folder, out, manifest.files)
    if load_provenance(folder) is not None:
        write_atomic(out / PROVENANCE_NAME, (folder / PROVENANCE_NAME).read_bytes())
    description = Description(container.name, manifest, indices)
    write_atomic(out / DESCRIPTION_NAME, description.to_bytes())
    return description


def _export_shard(
    folder: Path,
    out: Path,
    manifest: Manifest,
    entry: ShardEntry,
    container: Container,
    start: int,
    pool: ThreadPoolExecutor,
) -> list[IndexRow]:
    """Write the archives of one shard, whose first sample has the number `start` in its split."""
    shard = read_verified_shard(folder, manifest, entry)
    rows = []
    for number, key in enumerate(shard.keys):
        label = None if shard.labels is None else int(shard.labels[number])
        name = f"{start + number:07d}-{sanitize_path_part(Path(key).stem)[:STEM_LENGTH]}{container.suffixes[0]}"
        rows.append(IndexRow(f"{entry.split}/{_class_folder(label, manifest)}/{name}", label, key))
    for parent in {(out / row.path).parent for row in rows}:
        make_folder(parent)
    signal_shape = _signal_shape(manifest.latent_shape, manifest.spec)

    def write(number: int) -> None:
        codes = np.ascontiguousarray(shard.codes[number])
        data = archive_to_bytes(codes, manifest.spec, signal_shape=signal_shape, container=container.name)
        write_atomic(out / rows[number].path, data)

    list(pool.map(write, range(len(rows))))
    return rows


def _signal_shape(latent_shape: tuple[int, ...], spec: LatentSpec) -> tuple[int, ...]:
    """Return the shape of the encoded signals, whose sizes are multiples of the stride."""
    return (spec.source_channels, *((size - spec.extra_frames) * spec.stride for size in latent_shape[1:]))


def _class_folder(label: int | None, manifest: Manifest) -> str:
    if label is None or label < 0 or manifest.class_names is None or label >= len(manifest.class_names):
        return UNLABELED
    return sanitize_path_part(manifest.class_names[label])
