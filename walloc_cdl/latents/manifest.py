"""The manifest: the one truth about a data set, written last, deterministic, sealed by its own digest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.latents.labels import LabelSpec
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.spec import LatentSpec

FORMAT = "walloc-cdl latents"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
PROVENANCE_NAME = "provenance.json"
WORK_NAME = "_work"
LEDGER_NAME = "ledger.parquet"
EDIT_NAME = "edit.json"
"""In the work folder: the record of a decided edit of the data set; see `docs/format.md`."""
COPY_FOLDER = "copy"
"""Second copies of all files but the shards, under the same relative paths."""
SHARD_SUFFIX = ".safetensors"
MAX_MANIFEST_BYTES = 1 << 28
"""No manifest is read that is larger; a shard takes about 250 bytes of it."""


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

    def digest(self) -> str:
        """SHA-256 (hex) of the values, as it stands in the file; tells data sets apart."""
        return sha256_hex(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Plain values; without the digest, which `encode_json_with_digest` adds."""
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
