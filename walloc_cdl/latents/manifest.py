"""The manifest: the authoritative description of a data set, deterministic, written last, with its own digest.

A shard has two hashes: of the file, and of everything except its codes. A wrong label or key does more harm than a
wrong code, and both take some 70 bytes of the 12 kB of a sample, so the fast check reads them. A hash of the header
alone would detect nothing, since the parser derives the whole header from the manifest already.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.latents.labels import LabelSpec
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.schema import Count, FileName, Sha256
from walloc_cdl.spec import LatentSpec

FORMAT = "walloc-cdl latents"
FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
PROVENANCE_NAME = "provenance.json"
WORK_NAME = "_work"
LEDGER_NAME = "ledger.parquet"
EDIT_NAME = "edit.json"
"""In the work folder: the record of a committed edit of the data set; see `docs/format.md`."""
COPY_FOLDER = "copy"
"""Second copies of all files except the shards, under the same relative paths."""
SHARD_SUFFIX = ".safetensors"
MAX_MANIFEST_BYTES = 1 << 26
"""Larger manifests are refused: a shard takes about 250 bytes of the manifest, and a byte up to 16 bytes of memory."""


@dataclass(frozen=True)
class ShardEntry:
    """The manifest's entry of one shard; `name` is a plain file name that ends in `.safetensors`."""

    name: FileName
    split: str
    num_samples: Count
    num_bytes: Count
    sha256: Sha256
    index_sha256: Sha256
    """SHA-256 of everything except the codes (header, labels, checksums, keys): a small part, so quickly checked."""


@dataclass(frozen=True)
class FileEntry:
    """The manifest's entry of one file that is not a shard."""

    num_bytes: Count
    sha256: Sha256


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split."""

    num_samples: Count
    class_counts: list[Count] | None = None
    """Number of samples of each class, in the order of the class names. Unknown labels (-1) are not counted; a sample
    of several classes counts for each of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """Everything about a data set that does not depend on when or where it was made.

    `preprocessing`, `source` and `ledger` hold plain JSON values.
    """

    spec: LatentSpec
    latent_shape: tuple[int | None, ...]
    """(K, h, w) for images, (K, t) for audio; sizes are None if the geometry is ragged."""
    splits: dict[str, SplitSummary]
    shards: list[ShardEntry]
    """In the order of the samples: a split's rows are numbered across its shards in this order."""
    files: dict[str, FileEntry]
    """All other files of the data set by relative path, except the manifest and the provenance."""
    histograms: dict[str, np.ndarray]
    """For each split, an int64 array (K, 256): how often each byte occurs in each channel."""
    label_kind: str = "none"
    """`class`, `multilabel`, `regression` or `none`; see `LabelSpec`."""
    class_names: list[str] | None = None
    """In the order of the class numbers or columns; None if class numbers have no names."""
    target_names: list[str] | None = None
    """Names of the columns of regression targets."""
    views: list[str] | None = None
    """Names of the stored variants of each sample, the evaluation crop first; None for a single one."""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    """How signals became the codec's input."""
    source: dict[str, Any] = field(default_factory=dict)
    """Name, fingerprint and size of the source."""
    ledger: dict[str, Any] = field(default_factory=dict)
    """Summary of the ledger."""
    format_version: int = FORMAT_VERSION

    def shards_of(self, split: str) -> list[ShardEntry]:
        """Return the shards of one split, in order."""
        return [entry for entry in self.shards if entry.split == split]

    @property
    def layout(self) -> SampleLayout:
        """Layout of the samples, which determines the tensors of each shard."""
        names = self.target_names if self.label_kind == "regression" else self.class_names
        labels = LabelSpec(self.label_kind, len(names or []))
        return SampleLayout(self.spec, self.latent_shape, labels, len(self.views or [""]))

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the values, which is the file's field `digest`; it identifies the data set."""
        return sha256_hex(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values without the digest, which `encode_json_with_digest` adds."""
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
