"""The manifest: the one truth about a data set, written last, deterministic, sealed by its own digest."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.errors import CallError, CdlError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, damaged, is_plain_path, require_integer, require_path, require_text
from walloc_cdl.latents.labels import LabelSpec
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.latents.sealed import seal, unseal
from walloc_cdl.spec import LatentSpec

FORMAT = "walloc-cdl latents"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
PROVENANCE_NAME = "provenance.json"
WORK_NAME = "_work"
EDIT_NAME = "edit.json"
"""In the work folder: the record of a decided edit of the data set; see `docs/format.md`."""
COPY_FOLDER = "copy"
"""Second copies of all files but the shards, under the same relative paths."""
SHARD_SUFFIX = ".safetensors"
MAX_MANIFEST_BYTES = 1 << 28
"""No manifest is read that is larger; a shard takes about 200 bytes of it."""


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says about one shard; `name` is a plain file name that ends in `.safetensors`."""

    name: str
    split: str
    num_samples: int
    num_bytes: int
    sha256: str
    index_sha256: str
    """Of all of the file but the codes: header, labels, checksums, keys; a small part of it, so quickly checked."""


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says about one other file."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split."""

    num_samples: int
    class_counts: list[int] | None = None
    """Samples of each class, in the order of the class names; unknown labels (-1) are in none, samples of several
    classes in each of theirs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """Everything about a data set that does not depend on when or where it was made."""

    spec: LatentSpec
    latent_shape: tuple[int | None, ...]
    """(K, h, w) of every image, (K, t) of every piece of audio; None for the sizes of ragged geometry."""
    splits: dict[str, SplitSummary]
    shards: list[ShardEntry]
    """In the order of the samples: a split's rows are numbered through its shards in this order."""
    files: dict[str, FileEntry]
    """Every other file of the data set by relative path, but this one and the provenance."""
    histograms: dict[str, np.ndarray]
    """For each split an int64 array (K, 256): how often each byte occurs in each channel."""
    label_kind: str = "none"
    """`class`, `multilabel`, `regression` or `none`; see `LabelSpec`."""
    class_names: list[str] | None = None
    """In the order of the class numbers or columns; numbers may be without."""
    target_names: list[str] | None = None
    """Of the columns of regression targets."""
    views: list[str] | None = None
    """What the stored variants of each sample are, the evaluation crop first; None for a single one."""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    """How signals became the codec's input: plain JSON values."""
    source: dict[str, Any] = field(default_factory=dict)
    """Name, fingerprint and size of what was encoded: plain JSON values."""
    ledger: dict[str, Any] = field(default_factory=dict)
    """Summary of the ledger: plain JSON values."""
    format_version: int = FORMAT_VERSION

    def shards_of(self, split: str) -> list[ShardEntry]:
        """The shards of one split, in order."""
        return [entry for entry in self.shards if entry.split == split]

    @property
    def layout(self) -> SampleLayout:
        """What every sample is, and so which tensors each shard has."""
        names = self.target_names if self.label_kind == "regression" else self.class_names
        labels = LabelSpec(self.label_kind, len(names or []))
        return SampleLayout(self.spec, self.latent_shape, labels, len(self.views or [""]))

    def to_json(self) -> dict[str, Any]:
        """Plain values; without the digest, which `seal` adds."""
        return {
            "format": FORMAT,
            "format_version": self.format_version,
            "spec": self.spec.to_json(),
            "geometry": "ragged" if self.layout.ragged else "fixed",
            "latent_shape": list(self.latent_shape),
            "views": self.views,
            "preprocessing": self.preprocessing,
            "label_kind": self.label_kind,
            "class_names": self.class_names,
            "target_names": self.target_names,
            "splits": {name: asdict(summary) for name, summary in self.splits.items()},
            "shards": [asdict(entry) for entry in self.shards],
            "files": {name: asdict(entry) for name, entry in self.files.items()},
            "histograms": {name: histogram.tolist() for name, histogram in self.histograms.items()},
            "source": self.source,
            "ledger": self.ledger,
        }

    @classmethod
    def from_json(cls, values: Any, *, origin: str = MANIFEST_NAME) -> Manifest:
        """Inverse of `to_json` for untrusted values; raises `DamagedError`, naming `origin`.

        A manifest of another format version is intact, but not for this program: `CallError`.
        """
        fields = Fields(values, origin)
        if fields.get("format") != FORMAT:
            raise DamagedError(f"{origin}: format is {fields.get('format')!r}, expected {FORMAT!r}; {REMEDY}")
        version = fields.integer("format_version", 1)
        if version != FORMAT_VERSION:
            raise CallError(
                f"{origin}: format version {version}, this program reads {FORMAT_VERSION}; update walloc-cdl"
            )
        manifest = cls(
            spec=fields.spec("spec"),
            latent_shape=_parse_shape(fields),
            splits={name: _parse_split(part) for name, part in _objects(fields, "splits")},
            shards=[
                _parse_shard(Fields(item, f"{origin}, shards[{i}]")) for i, item in enumerate(fields.items("shards"))
            ],
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
            raise damaged(f"{origin}, geometry", fields.get("geometry"), f"{expected!r}, as the latent shape has it")
        if problem := inconsistency(manifest):
            raise DamagedError(f"{origin}: {problem}; {REMEDY}")
        return manifest


def load_manifest(folder: Path | str) -> Manifest:
    """Read and check the manifest of a data set.

    Raises `CallError` if `folder` is no data set, `DamagedError` if its manifest is not what was written.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        raise _absence(Path(folder))
    try:
        return parse_manifest(read_limited(path), origin=str(path))
    except DamagedError as error:
        reason = str(error).removesuffix(f"; {REMEDY}")
        raise DamagedError(f"{reason}; `cdl repair {folder}` restores it from its copy") from error


def read_limited(path: Path) -> bytes:
    """The content of a file that is a manifest or is to be one; `DamagedError` above `MAX_MANIFEST_BYTES`."""
    if (found := path.stat().st_size) > MAX_MANIFEST_BYTES:
        raise DamagedError(f"{path}: {found} bytes, expected at most {MAX_MANIFEST_BYTES}; {REMEDY}")
    return path.read_bytes()


def parse_manifest(data: bytes, *, origin: str) -> Manifest:
    """The manifest in the content of a `manifest.json`, at most `MAX_MANIFEST_BYTES`.

    Raises `DamagedError`, naming `origin`, unless it is what was written.
    """
    return Manifest.from_json(unseal(data, origin=origin), origin=origin)


def _absence(folder: Path) -> CdlError:
    """Why there is no manifest."""
    if (folder / WORK_NAME / EDIT_NAME).is_file():
        return DamagedError(f"an edit of {folder} was interrupted: run `cdl repair {folder}`")
    if (folder / COPY_FOLDER / MANIFEST_NAME).is_file() and not (folder / WORK_NAME).is_dir():
        return DamagedError(f"{folder} has lost its manifest.json; `cdl repair {folder}` restores it from its copy")
    what = "has no manifest.json" if folder.is_dir() else "does not exist"
    return CallError(f"{folder} is no data set (it {what}); make one with `cdl prepare SOURCE --codec NAME --out DIR`")


def manifest_bytes(manifest: Manifest) -> bytes:
    """The content of `manifest.json`; raises `CallError` for a manifest that contradicts itself."""
    if problem := inconsistency(manifest):
        raise CallError(f"manifest not written: {problem}")
    return seal(manifest.to_json())


def inconsistency(manifest: Manifest) -> str | None:
    """The first contradiction inside a manifest, in words, or None."""
    if problem := _name_inconsistency(manifest) or manifest.layout.problem():
        return problem
    names = [*(entry.name for entry in manifest.shards), *manifest.files, MANIFEST_NAME, PROVENANCE_NAME]
    if len(set(names)) != len(names):
        return f"file {next(name for name, times in Counter(names).items() if times > 1)!r} is listed twice"
    if taken := [name for name in names if name.split("/")[0] in (COPY_FOLDER, WORK_NAME)]:
        return f"file {taken[0]!r} lies where copies or unfinished work lie"
    for entry in manifest.shards:
        if not entry.name.endswith(SHARD_SUFFIX) or not is_plain_path(entry.name) or "/" in entry.name:
            return f"shard name {entry.name!r} is no plain name ending in {SHARD_SUFFIX}"
        if entry.split not in manifest.splits:
            return f"shard {entry.name} belongs to split {entry.split!r}, which is not listed"
    if set(manifest.histograms) != set(manifest.splits):
        return f"histograms for {sorted(manifest.histograms)}, expected {sorted(manifest.splits)}"
    for name, summary in manifest.splits.items():
        if problem := _split_inconsistency(manifest, name, summary):
            return f"split {name!r}: {problem}"
    return None


def _name_inconsistency(manifest: Manifest) -> str | None:
    """What is wrong with the names of classes, targets or views."""
    for what in ("class", "target", "view"):
        names = manifest.views if what == "view" else getattr(manifest, f"{what}_names")
        if names is not None and len(set(names)) != len(names):
            return f"a {what} name occurs twice"
    if manifest.views is not None and len(manifest.views) < 2:
        return f"views {manifest.views}, expected two or more, or null"
    if manifest.class_names is not None and manifest.label_kind not in ("class", "multilabel"):
        return f"class names, but labels of kind {manifest.label_kind!r}"
    if manifest.target_names is not None and manifest.label_kind != "regression":
        return f"target names, but labels of kind {manifest.label_kind!r}"
    return None


def _split_inconsistency(manifest: Manifest, name: str, summary: SplitSummary) -> str | None:
    if not is_plain_path(name) or "/" in name:
        return "not a plain name"
    in_shards = sum(entry.num_samples for entry in manifest.shards_of(name))
    if in_shards != summary.num_samples:
        return f"{in_shards} samples in its shards, expected {summary.num_samples}"
    return _histogram_inconsistency(manifest, name, summary) or _count_inconsistency(manifest, summary)


def _histogram_inconsistency(manifest: Manifest, name: str, summary: SplitSummary) -> str | None:
    histogram, layout = manifest.histograms[name], manifest.layout
    if histogram.shape != (layout.spec.latent_channels, 256):
        return f"histogram of shape {list(histogram.shape)}, expected {[layout.spec.latent_channels, 256]}"
    totals = histogram.sum(1)
    if layout.ragged:
        if totals.min() != totals.max() or totals[0] < summary.num_samples:
            return f"histogram counts {totals.min()} to {totals.max()} positions in {summary.num_samples} samples"
        return None
    positions = layout.num_views * math.prod(layout.sample_shape[-len(layout.latent_shape) + 1 :])
    if (totals != summary.num_samples * positions).any():
        return f"histogram counts differ from {summary.num_samples} samples of {positions} positions"
    return None


def _count_inconsistency(manifest: Manifest, summary: SplitSummary) -> str | None:
    counts = summary.class_counts
    if counts is None:
        return None
    if manifest.class_names is None or len(counts) != len(manifest.class_names):
        return f"{len(counts)} class counts for {len(manifest.class_names or [])} class names"
    if manifest.label_kind == "multilabel" and max(counts) > summary.num_samples:
        return f"{max(counts)} samples of one class, more than {summary.num_samples} samples"
    if manifest.label_kind == "class" and sum(counts) > summary.num_samples:
        return f"class counts add up to {sum(counts)}, more than {summary.num_samples} samples"
    return None


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
    """The members of an object of objects; their names must be plain relative paths."""
    group = fields.object(name)
    return [(require_path(key, group.where, parts=True), group.object(key)) for key in group.values]


def _parse_histogram(rows: Any, where: str) -> np.ndarray:
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 256 for row in rows):
        raise DamagedError(f"{where}: expected rows of 256 counts; {REMEDY}")
    return np.array([[require_integer(count, where) for count in row] for row in rows], np.int64).reshape(-1, 256)
