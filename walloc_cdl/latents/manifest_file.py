"""Reading and writing `manifest.json`; the file is untrusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.addresses import local_path
from walloc_cdl.errors import CallError, CdlError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, damaged, require_integer, require_path, require_text
from walloc_cdl.latents.consistency import inconsistency
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest
from walloc_cdl.latents.manifest import (
    COPY_FOLDER,
    EDIT_NAME,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    WORK_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    SplitSummary,
)


def load_manifest(folder: Path | str) -> Manifest:
    """Read and check the manifest of a data set.

    Raises `CallError` if `folder` is not a data set, `DamagedError` if its manifest is damaged.
    """
    folder = local_path(folder)
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise _missing_manifest_error(folder)
    try:
        return parse_manifest(read_limited(path), origin=str(path))
    except DamagedError as error:
        reason = str(error).removesuffix(f"; {REMEDY}")
        raise DamagedError(f"{reason}; `cdl repair {folder}` restores it from its copy") from error


def read_limited(path: Path) -> bytes:
    """Read a manifest, or a file that should become one; `DamagedError` if it exceeds `MAX_MANIFEST_BYTES`."""
    if (found := path.stat().st_size) > MAX_MANIFEST_BYTES:
        raise DamagedError(f"{path}: {found} bytes, expected at most {MAX_MANIFEST_BYTES}; {REMEDY}")
    return path.read_bytes()


def parse_manifest(data: bytes, *, origin: str) -> Manifest:
    """Parse the content of a `manifest.json`, at most `MAX_MANIFEST_BYTES`.

    Raises `DamagedError`, naming `origin`, if it is damaged.
    """
    return manifest_from_json(parse_json_with_digest(data, origin=origin), origin=origin)


def _missing_manifest_error(folder: Path) -> CdlError:
    """Return the error that explains why there is no manifest."""
    if (folder / WORK_NAME / EDIT_NAME).is_file():
        return DamagedError(f"an edit of {folder} was interrupted: run `cdl repair {folder}`")
    if (folder / COPY_FOLDER / MANIFEST_NAME).is_file() and not (folder / WORK_NAME).is_dir():
        return DamagedError(f"{folder} has lost its {MANIFEST_NAME}; `cdl repair {folder}` restores it from its copy")
    reason = f"has no {MANIFEST_NAME}" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    return CallError(
        f"{folder} is not a data set (it {reason}); make one with `cdl prepare SOURCE --codec NAME --out DIR`"
    )


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the content of `manifest.json`; raises `CallError` for a manifest that contradicts itself."""
    if problem := inconsistency(manifest):
        raise CallError(f"manifest not written: {problem}")
    return encode_json_with_digest(manifest.to_json())


def manifest_from_json(values: Any, *, origin: str = MANIFEST_NAME) -> Manifest:
    """Return the manifest of untrusted JSON values: the inverse of `Manifest.to_json`.

    Raises `DamagedError`, naming `origin`, for invalid values, and `CallError` for another format version, which is
    not damage.
    """
    fields = Fields(values, origin)
    if fields.get("format") != FORMAT:
        raise DamagedError(f"{origin}: format is {fields.get('format')!r}, expected {FORMAT!r}; {REMEDY}")
    version = fields.integer("format_version", 1)
    if version != FORMAT_VERSION:
        raise CallError(f"{origin}: format version {version}, this program reads {FORMAT_VERSION}; update walloc-cdl")
    manifest = Manifest(
        spec=fields.spec("spec"),
        latent_shape=_parse_shape(fields),
        splits={name: _parse_split(part) for name, part in _objects(fields, "splits")},
        shards=[_parse_shard(Fields(item, f"{origin}, shards[{i}]")) for i, item in enumerate(fields.items("shards"))],
        files={name: _parse_file(part) for name, part in _objects(fields, "files")},
        histograms={
            name: _parse_histogram(rows, f"{origin}, histograms, {name}")
            for name, rows in fields.object("histograms").values.items()
        },
        label_kind=fields.text("label_kind"),
        class_names=_parse_names(fields, "class_names"),
        target_names=_parse_names(fields, "target_names"),
        views=_parse_names(fields, "views"),
        preprocessing=fields.object("preprocessing").values,
        source=fields.object("source").values,
        ledger=fields.object("ledger").values,
    )
    fields.require_names(set(manifest.to_json()))
    if fields.get("geometry") != (expected := "ragged" if manifest.layout.ragged else "fixed"):
        raise damaged(f"{origin}, geometry", fields.get("geometry"), f"{expected!r}, which the latent shape implies")
    if problem := inconsistency(manifest):
        raise DamagedError(f"{origin}: {problem}; {REMEDY}")
    return manifest


def _parse_shape(fields: Fields) -> tuple[int | None, ...]:
    where = f"{fields.where}, latent_shape"
    sizes = [None if size is None else require_integer(size, where, 1) for size in fields.items("latent_shape")]
    if len(sizes) not in (2, 3):
        raise DamagedError(f"{fields.where}, latent_shape: {len(sizes)} sizes, expected 2 or 3; {REMEDY}")
    return tuple(sizes)


def _parse_names(fields: Fields, name: str) -> list[str] | None:
    if fields.get(name) is None:
        return None
    return [require_text(item, f"{fields.where}, {name}") for item in fields.items(name)]


def _parse_split(fields: Fields) -> SplitSummary:
    fields.require_names({"num_samples", "class_counts"})
    counts = None
    if fields.get("class_counts") is not None:
        where = f"{fields.where}, class_counts"
        counts = [require_integer(count, where) for count in fields.items("class_counts")]
    return SplitSummary(fields.integer("num_samples"), counts)


def _parse_shard(fields: Fields) -> ShardEntry:
    fields.require_names({"name", "split", "num_samples", "num_bytes", "sha256", "index_sha256"})
    return ShardEntry(
        fields.path("name"),
        fields.text("split"),
        fields.integer("num_samples"),
        fields.integer("num_bytes"),
        fields.sha256("sha256"),
        fields.sha256("index_sha256"),
    )


def _parse_file(fields: Fields) -> FileEntry:
    fields.require_names({"num_bytes", "sha256"})
    return FileEntry(fields.integer("num_bytes"), fields.sha256("sha256"))


def _objects(fields: Fields, name: str) -> list[tuple[str, Fields]]:
    """Return the members of an object of objects; their names must be plain relative paths."""
    group = fields.object(name)
    return [(require_path(key, group.where, parts=True), group.object(key)) for key in group.values]


def _parse_histogram(rows: Any, where: str) -> np.ndarray:
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 256 for row in rows):
        raise DamagedError(f"{where}: expected rows of 256 counts; {REMEDY}")
    return np.array([[require_integer(count, where) for count in row] for row in rows], np.int64).reshape(-1, 256)
