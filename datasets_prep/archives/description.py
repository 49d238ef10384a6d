"""The description and the indices of a folder of archives. `docs/archives.md` specifies them.

`archives.json` contains the data set's manifest, with which every restored shard is compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets_prep.folders.verified_read import read_verified_file
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, require_integer, require_path, require_text, shorten
from walloc_cdl.latents import FileEntry, Manifest, manifest_from_json
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, read_json_with_digest

FORMAT = "walloc-cdl archives"
INDEX_FORMAT = "walloc-cdl archive index"
FORMAT_VERSION = 1
DESCRIPTION_NAME = "archives.json"
INDEX_FOLDER = "index"

MAX_DESCRIPTION_BYTES = 1 << 28
"""Larger descriptions and indices are refused; a sample takes about 100 bytes of its index."""


@dataclass(frozen=True, eq=False)
class Description:
    """Content of `archives.json`."""

    container: str
    manifest: Manifest
    """Manifest of the data set of shards."""
    indices: dict[str, FileEntry]
    """For each shard, by name, the file that lists its samples."""

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return encode_json_with_digest(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "container": self.container,
                "manifest": self.manifest.to_json(),
                "indices": {name: asdict(entry) for name, entry in self.indices.items()},
            }
        )


@dataclass(frozen=True)
class IndexRow:
    """One sample of an index."""

    path: str
    """Path of its archive, relative to the folder."""
    label: int | None
    """Class number; None in a data set without labels."""
    key: str


def index_path(shard: str) -> str:
    """Return the path of a shard's index, relative to the folder."""
    return f"{INDEX_FOLDER}/{Path(shard).stem}.json"


def index_bytes(shard: str, rows: list[IndexRow]) -> bytes:
    """Return the content of the file that lists the samples of a shard, in order."""
    samples = [[row.path, row.label, row.key] for row in rows]
    return encode_json_with_digest(
        {"format": INDEX_FORMAT, "format_version": FORMAT_VERSION, "shard": shard, "samples": samples}
    )


def load_description(folder: Path) -> Description:
    """Read and check `archives.json`.

    Raises `CallError` if the folder has no such file or one of another format version, `DamagedError` if it is
    damaged.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        reason = f"has no {DESCRIPTION_NAME}" if folder.is_dir() else "does not exist"
        raise CallError(
            f"{folder} is not a folder of archives (it {reason}); make one with `cdl export DIR --archive --out OUT`"
        )
    fields = _read_fields(path, FORMAT, {"container", "manifest", "indices"})
    manifest = manifest_from_json(fields.get("manifest"), origin=f"{path}, manifest")
    entries = fields.object("indices")
    indices = {name: _file_entry(entries.object(name)) for name in entries.values}
    if set(indices) != {entry.name for entry in manifest.shards}:
        raise DamagedError(f"{path}: the shards of the indices differ from the manifest's; {REMEDY}")
    return Description(fields.text("container"), manifest, indices)


def load_index(folder: Path, shard: str, entry: FileEntry) -> list[IndexRow]:
    """Read the samples of a shard; `DamagedError` if the index is missing or damaged."""
    path = folder / index_path(shard)
    read_verified_file(path, entry)
    fields = _read_fields(path, INDEX_FORMAT, {"shard", "samples"})
    if fields.text("shard") != shard:
        raise DamagedError(f"{path}: the index of {shorten(fields.text('shard'))}, expected {shard!r}; {REMEDY}")
    return [_row(sample, f"{path}, samples[{number}]") for number, sample in enumerate(fields.items("samples"))]


def _read_fields(path: Path, file_format: str, names: set[str]) -> Fields:
    """Read a JSON file with a digest, and check its format, version and the names of its fields."""
    fields = Fields(read_json_with_digest(path, max_bytes=MAX_DESCRIPTION_BYTES), str(path))
    if fields.get("format") != file_format:
        raise DamagedError(f"{path}: format is {shorten(fields.get('format'))}, expected {file_format!r}; {REMEDY}")
    version = fields.integer("format_version", 1)
    if version != FORMAT_VERSION:
        raise CallError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}; update walloc-cdl")
    fields.require_names({"format", "format_version", *names})
    return fields


def _file_entry(fields: Fields) -> FileEntry:
    fields.require_names({"num_bytes", "sha256"})
    return FileEntry(fields.integer("num_bytes"), fields.sha256("sha256"))


def _row(sample: Any, where: str) -> IndexRow:
    if not isinstance(sample, list) or len(sample) != 3:
        raise DamagedError(f"{where}: expected a path, a label and a key; {REMEDY}")
    path, label, key = sample
    return IndexRow(
        require_path(path, where, parts=True),
        None if label is None else require_integer(label, where, -1),
        require_text(key, where),
    )


def require_archivable(folder: Path, manifest: Manifest) -> None:
    """Raise `CallError` for a data set that archives cannot hold: they hold one latent per sample, all of one size,
    and class numbers."""
    layout = manifest.layout
    unsupported = {
        "of ragged geometry": layout.ragged,
        f"of {layout.num_views} views": layout.num_views > 1,
        f"with labels of kind {manifest.label_kind!r}": manifest.label_kind not in ("class", "none"),
    }
    if reasons := [reason for reason, applies in unsupported.items() if applies]:
        raise CallError(
            f"{folder} holds samples {' and '.join(reasons)}; archives hold one latent per sample, all of one size, "
            "with class numbers or without labels"
        )
