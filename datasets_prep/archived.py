"""A data set as a folder of archives: its description and its indices. `docs/archives.md` specifies them.

`archives.json` holds the data set's own manifest, so that going back can be checked shard by shard.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, require_integer, require_path, require_text
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic
from walloc_cdl.latents import WORK_NAME, FileEntry, Manifest, manifest_from_json
from walloc_cdl.latents.sealed import seal, unseal

FORMAT = "walloc-cdl archives"
INDEX_FORMAT = "walloc-cdl archive index"
FORMAT_VERSION = 1
DESCRIPTION_NAME = "archives.json"
INDEX_FOLDER = "index"
STATE_NAME = "state.json"
FETCHED_NAME = "hub"
"""In the work folder: what is fetched, but not whole yet."""

MAX_DESCRIPTION_BYTES = 1 << 28
"""No description or index is read that is larger; a sample takes about 100 bytes of its index."""


@dataclass(frozen=True, eq=False)
class Description:
    """What `archives.json` says."""

    container: str
    manifest: Manifest
    """Of the data set of shards."""
    indices: dict[str, FileEntry]
    """For each shard, by its name, the file that lists its samples."""

    def to_bytes(self) -> bytes:
        """The file."""
        return seal(
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
    """One sample."""

    path: str
    """Of its archive, below the folder."""
    label: int | None
    """None in a data set without labels."""
    key: str


def index_path(shard: str) -> str:
    """Path below the folder of a shard's index."""
    return f"{INDEX_FOLDER}/{Path(shard).stem}.json"


def index_bytes(shard: str, rows: list[IndexRow]) -> bytes:
    """The file that lists the samples of a shard, in order."""
    samples = [[row.path, row.label, row.key] for row in rows]
    return seal({"format": INDEX_FORMAT, "format_version": FORMAT_VERSION, "shard": shard, "samples": samples})


def load_description(folder: Path) -> Description:
    """Read and check `archives.json`.

    Raises `CallError` for a folder without, or of another format version, `DamagedError` for a damaged one.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        what = f"has no {DESCRIPTION_NAME}" if folder.is_dir() else "does not exist"
        raise CallError(
            f"{folder} is no folder of archives (it {what}); make one with `cdl export DIR --archive --out OUT`"
        )
    fields = _unsealed(path, FORMAT, {"container", "manifest", "indices"})
    manifest = manifest_from_json(fields.get("manifest"), origin=f"{path}, manifest")
    entries = fields.object("indices")
    indices = {name: _file_entry(entries.object(name)) for name in entries.values}
    if set(indices) != {entry.name for entry in manifest.shards}:
        raise DamagedError(f"{path}: indices of other shards than the manifest's; {REMEDY}")
    return Description(fields.text("container"), manifest, indices)


def load_index(folder: Path, shard: str, entry: FileEntry) -> list[IndexRow]:
    """The samples of a shard; `DamagedError` for an index that is missing or not what was written."""
    path = folder / index_path(shard)
    read_listed(path, entry)
    fields = _unsealed(path, INDEX_FORMAT, {"shard", "samples"})
    if fields.text("shard") != shard:
        raise DamagedError(f"{path}: the index of {fields.text('shard')!r}, expected {shard!r}; {REMEDY}")
    return [_row(sample, f"{path}, samples[{number}]") for number, sample in enumerate(fields.items("samples"))]


def read_listed(path: Path, entry: FileEntry) -> bytes:
    """The content of a file that a manifest or a description lists; `DamagedError` unless it is that."""
    if not path.is_file():
        raise DamagedError(f"{path}: missing, though it is listed; {REMEDY}")
    if (found := path.stat().st_size) != entry.num_bytes:
        raise DamagedError(f"{path}: {found} bytes, expected {entry.num_bytes}; {REMEDY}")
    data = path.read_bytes()
    if (digest := sha256_hex(data)) != entry.sha256:
        raise DamagedError(f"{path}: SHA-256 is {digest[:12]}…, expected {entry.sha256[:12]}…; {REMEDY}")
    return data


def begin(folder: Path, state: dict[str, Any]) -> None:
    """Make `folder` ready for a job that `state` (plain values) describes: new, empty, or left by the same job.

    Raises `CallError` for a folder that holds anything else.
    """
    path = folder / WORK_NAME / STATE_NAME
    if folder.exists() and not folder.is_dir():
        raise CallError(f"{folder} is a file; give a new or empty folder")
    if path.is_file():
        if unseal(path.read_bytes(), origin=str(path)) != state:
            raise CallError(f"{folder} holds an unfinished job of another data set or form; give a new folder")
        return
    ours = set() if foreign_names(path.parent, set()) else {WORK_NAME}  # empty when killed before the state was written
    if foreign := foreign_names(folder, ours):
        raise CallError(f"{folder} holds something else ({foreign[0]}); give a new or empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, seal(state))


def copy_files(source: Path, out: Path, files: dict[str, FileEntry]) -> None:
    """Copy listed files as they are, each checked against its hash."""
    for name, entry in sorted(files.items()):
        data = read_listed(source / name, entry)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out / name, data)


def end(folder: Path) -> None:
    """Remove a finished job's state, what it fetched into its work folder, and what killed writers left.

    Nothing where there is no such state: the work folder may be that of an edit or an extension then.
    """
    work = folder / WORK_NAME
    if not (work / STATE_NAME).is_file():
        return
    for parent in {path.parent for path in folder.rglob(".*.tmp")}:
        if work not in (parent, *parent.parents):
            remove_temporaries(parent)
    shutil.rmtree(work / FETCHED_NAME, ignore_errors=True)
    remove_temporaries(work)
    (work / STATE_NAME).unlink()
    if not any(work.iterdir()):
        work.rmdir()


def _unsealed(path: Path, kind: str, names: set[str]) -> Fields:
    if path.stat().st_size > MAX_DESCRIPTION_BYTES:
        raise DamagedError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_DESCRIPTION_BYTES}; {REMEDY}")
    fields = Fields(unseal(path.read_bytes(), origin=str(path)), str(path))
    if fields.get("format") != kind:
        raise DamagedError(f"{path}: format is {fields.get('format')!r}, expected {kind!r}; {REMEDY}")
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
    """Raise `CallError` for a data set that archives cannot hold: one latent each, of one size, with a class number."""
    layout = manifest.layout
    found = {
        "of ragged geometry": layout.ragged,
        f"of {layout.num_views} views": layout.num_views > 1,
        f"with labels of kind {manifest.label_kind!r}": manifest.label_kind not in ("class", "none"),
    }
    if reasons := [reason for reason, given in found.items() if given]:
        raise CallError(
            f"{folder} holds samples {' and '.join(reasons)}; archives are made of one latent a sample, all of one "
            "size, with class numbers or without labels"
        )
