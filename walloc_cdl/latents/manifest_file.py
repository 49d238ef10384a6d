"""Reading and writing `manifest.json`; the file is untrusted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from walloc_cdl.addresses import local_path
from walloc_cdl.errors import CallError, CdlError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, damaged, require_path, shorten
from walloc_cdl.json_files import read_limited
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
from walloc_cdl.schema import Check, Count, from_json, require_type
from walloc_cdl.spec import LatentSpec

Side = Annotated[int, Check("an integer of at least 1", lambda value: value >= 1)]


def load_manifest(folder: Path | str) -> Manifest:
    """Read and check the manifest of a data set.

    Raises `CallError` if `folder` is not a data set, `DamagedError` if its manifest is damaged.
    """
    folder = local_path(folder)
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise _missing_manifest_error(folder)
    try:
        return parse_manifest(read_limited(path, MAX_MANIFEST_BYTES), origin=str(path))
    except DamagedError as error:
        reason = str(error).removesuffix(f"; {REMEDY}")
        raise DamagedError(f"{reason}; `cdl repair {folder}` restores it from its copy") from error


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
    header = Fields(values, origin)
    if header.get("format") != FORMAT:
        raise DamagedError(f"{origin}: format is {shorten(header.get('format'))}, expected {FORMAT!r}; {REMEDY}")
    version = header.integer("format_version", 1)
    if version != FORMAT_VERSION:
        remedy = "update walloc-cdl" if version > FORMAT_VERSION else "prepare the data set again"
        raise CallError(f"{origin}: format version {version}, this program reads {FORMAT_VERSION}; {remedy}")
    stored = from_json(_StoredManifest, values, origin)
    for name in stored.files:
        require_path(name, f"{origin}, files", parts=True)
    _require_known_types(stored, origin)
    if len(stored.latent_shape) not in (2, 3):
        raise DamagedError(f"{origin}, latent_shape: {len(stored.latent_shape)} sizes, expected 2 or 3; {REMEDY}")
    fields = {field.name: getattr(stored, field.name) for field in dataclasses.fields(Manifest)}
    fields["histograms"] = {
        name: parse_histogram(rows, f"{origin}, histograms, {name}") for name, rows in stored.histograms.items()
    }
    manifest = Manifest(**fields)
    if stored.geometry != (expected := "ragged" if manifest.layout.ragged else "fixed"):
        raise damaged(f"{origin}, geometry", stored.geometry, f"{expected!r}, which the latent shape implies")
    if problem := inconsistency(manifest):
        raise DamagedError(f"{origin}: {problem[:500]}; {REMEDY}")
    return manifest


@dataclass(frozen=True)
class _StoredManifest:
    """The fields of the file."""

    format: str
    format_version: int
    spec: LatentSpec
    geometry: str
    latent_shape: tuple[Side | None, ...]
    views: list[str] | None
    preprocessing: dict[str, Any]
    label_kind: str
    class_names: list[str] | None
    target_names: list[str] | None
    splits: dict[str, SplitSummary]
    shards: list[ShardEntry]
    files: dict[str, FileEntry]
    histograms: dict[str, list[list[int]]]
    source: dict[str, Any]
    ledger: dict[str, Any]


KNOWN_TYPES: dict[str, dict[str, Any]] = {
    "preprocessing": {"shard_samples": Side, "duplicates": str},
    "source": {
        "name": str,
        "num_samples": dict[str, Count],
        "num_strays": Count,
        "fingerprint": str,
        "limit": Side | None,
        "limit_seed": Count,
    },
    "ledger": {
        **dict.fromkeys(("num_rows", "num_stored", "num_quarantined", "num_dropped", "num_duplicates"), Count),
        **dict.fromkeys(("num_duplicates_across_splits", "num_duplicates_of_other_label"), Count),
        "reasons": dict[str, Count],
    },
}
"""Types of the members of the manifest's free objects that this program uses, where they are present."""


def _require_known_types(stored: _StoredManifest, origin: str) -> None:
    for field, known in KNOWN_TYPES.items():
        values = getattr(stored, field)
        for name in known.keys() & values.keys():
            require_type(known[name], values[name], f"{origin}, {field}, {name}")


def parse_histogram(rows: list[list[int]], where: str) -> np.ndarray:
    """Return the histogram, int64 (K, 256), of rows of counts; `DamagedError` unless each has 256 of at least 0."""
    if any(len(row) != 256 or min(row) < 0 for row in rows):
        raise DamagedError(f"{where}: expected rows of 256 counts; {REMEDY}")
    return np.array(rows, np.int64).reshape(-1, 256)
