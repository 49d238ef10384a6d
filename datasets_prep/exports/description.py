"""`walloc-cdl.json`: the description of an export for other programs, written last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, require_path, shorten
from walloc_cdl.latents import FileEntry, Manifest
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest
from walloc_cdl.planes.levels import LevelTables, channel_values

DESCRIPTION_NAME = "walloc-cdl.json"
FORMAT = "walloc-cdl export"
FORMAT_VERSION = 1
MAX_DESCRIPTION_BYTES = 1 << 28
"""Larger descriptions are refused; a file takes about 150 bytes of the description."""


@dataclass(frozen=True, eq=False)
class ExportDescription:
    """Content of `walloc-cdl.json`."""

    identity: dict[str, Any]
    """`form`, `splits` and the digest of the data set's `manifest`; equal exports have equal values."""
    about: dict[str, Any]
    """Spec, shape, views, labels, numbers of samples, preprocessing, source, and the value of each byte."""
    files: dict[str, FileEntry]
    """All other files by path."""

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        files = {name: asdict(entry) for name, entry in sorted(self.files.items())}
        return encode_json_with_digest(
            {"format": FORMAT, "format_version": FORMAT_VERSION, **self.identity, **self.about, "files": files}
        )


def export_identity(manifest: Manifest, format_name: str, splits: Sequence[str]) -> dict[str, Any]:
    """Return what identifies an export (its format, data set and splits) as plain JSON values."""
    return {"form": format_name, "manifest": manifest.digest(), "splits": list(splits)}


def export_contents(manifest: Manifest, splits: Sequence[str], levels: LevelTables | None = None) -> dict[str, Any]:
    """Return everything that is needed to decode an export without this package, as plain JSON values.

    `byte_values` has 256 entries: the companded latent that each byte represents, null for bytes that do not occur. Of
    latents with bit planes, whose `levels` are given, it has an array of 256 entries for each channel.
    """
    if levels is None:
        values = [None if math.isnan(value) else value for value in manifest.spec.byte_values().tolist()]
    else:
        values = channel_values(manifest.spec, levels).tolist()
    return {
        "spec": manifest.spec.to_json(),
        "latent_shape": list(manifest.latent_shape),
        "views": manifest.views,
        "byte_values": values,
        "label_kind": manifest.label_kind,
        "class_names": manifest.class_names,
        "target_names": manifest.target_names,
        "num_samples": {split: manifest.splits[split].num_samples for split in splits},
        "preprocessing": manifest.preprocessing,
        "source": manifest.source,
    }


def load_export(folder: Path) -> ExportDescription:
    """Read and check the description of a finished export.

    Raises `CallError` if the folder has no description or one of another format version, `DamagedError` if the
    description is damaged.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        raise CallError(f"{folder} is not a finished export (it has no {DESCRIPTION_NAME}); make one with `cdl export`")
    fields = Fields(read_json_with_digest(path, max_bytes=MAX_DESCRIPTION_BYTES), str(path))
    if fields.get("format") != FORMAT:
        raise DamagedError(f"{path}: format is {shorten(fields.get('format'))}, expected {FORMAT!r}; {REMEDY}")
    if (version := fields.integer("format_version", 1)) != FORMAT_VERSION:
        raise CallError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}; update walloc-cdl")
    listed = fields.object("files")
    files = {}
    for name in listed.values:
        entry = listed.object(name)
        files[require_path(name, str(path), parts=True)] = FileEntry(entry.integer("num_bytes"), entry.sha256("sha256"))
    names = {"form", "manifest", "splits"}
    rest = set(fields.values) - names - {"format", "format_version", "files"}
    return ExportDescription(
        {name: fields.get(name) for name in sorted(names)}, {name: fields.get(name) for name in sorted(rest)}, files
    )
