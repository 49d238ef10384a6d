"""`StoredSplit`: the shards of one split, memory-mapped on first use, and reads by the row of a sample in the split."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.data.files import DataFiles
from walloc_cdl.data.gather import RowGatherer
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import Manifest, Shard


class StoredSplit:
    """All samples of a split, which the data sets that are selections of it share; thread-safe.

    Rows, int64 (B,), must be in range. A copy in another process (by pickle) opens its own shards. With `num_planes`,
    only the first bit planes of each sample are read.
    """

    def __init__(
        self, folder: Path | str, files: DataFiles, manifest: Manifest, name: str, num_planes: int | None = None
    ) -> None:
        self.folder = folder
        self.files = files
        self.manifest = manifest
        self.name = name
        self.num_planes = num_planes
        self.layout = manifest.layout if num_planes is None else manifest.layout.with_planes(num_planes)
        """The layout of what is read of the samples; shards have that of the manifest."""
        self._entries = manifest.shards_of(name)
        self._shards: dict[int, Shard] = {}
        self.starts = np.cumsum([0, *(entry.num_samples for entry in self._entries)])
        """The row of each shard's first sample, and the number of samples, int64 (shards + 1,)."""
        self._label_shape, self._label_dtype = self.layout.labels.sample_shape, self.layout.labels.dtype
        pitch = None if self.layout.ragged else math.prod(manifest.layout.view_shape)
        self._codes_gatherer = RowGatherer(self.shard_codes, self.stored_starts, pitch=pitch)
        self._labels_gatherer = RowGatherer(self._label_bytes, self.starts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self._entries)

    @property
    def stored_starts(self) -> np.ndarray:
        """`starts` counted in stored views, int64 (shards + 1,)."""
        return self.starts * self.layout.num_views

    def shard(self, number: int) -> Shard:
        """Returns the shard of this number, mapped and checked on first use."""
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards.setdefault(number, self.files.open_shard(self._entries[number], self.manifest))
        return shard

    def shard_codes(self, number: int) -> np.ndarray:
        """Returns the mapped codes of a shard as stored, without reading them; flat if ragged.

        They are uint8 (N × views, K, h, w), or whole rows (N × views, R) if the samples are packed.
        """
        codes = self.shard(number).codes
        return codes if self.layout.ragged else codes.reshape(-1, *self.manifest.layout.view_shape)

    def fetch(self, progress: Callable[[int, int], object] | None = None) -> None:
        """See `LatentDataset.fetch`."""
        self.files.fetch(self._entries, progress)

    def read_file(self, name: str, max_bytes: int | None = None) -> bytes:
        """Returns the content of a small file that the manifest lists.

        Raises `DamagedError` if it is missing, or another one than the manifest lists, and, before it is fetched, if it
        has more than `max_bytes`.
        """
        entry = self.manifest.files[name]
        if max_bytes is not None and entry.num_bytes > max_bytes:
            raise DamagedError(
                f"{self.folder}: {name} of {entry.num_bytes} bytes, expected at most {max_bytes}; {REMEDY}"
            )
        path = self.files.path(name, entry)
        if not path.is_file():
            raise DamagedError(f"{path} is missing; restore it from a copy or prepare the data set again")
        if (num_bytes := path.stat().st_size) != entry.num_bytes:
            raise DamagedError(f"{path}: {num_bytes} bytes, expected {entry.num_bytes}; {REMEDY}")
        data = path.read_bytes()
        if (found := sha256_hex(data)) != entry.sha256:
            raise DamagedError(f"{path}: SHA-256 is {found[:12]}…, expected {entry.sha256[:12]}…; {REMEDY}")
        return data

    def shard_numbers(self, rows: np.ndarray) -> np.ndarray:
        """Returns the number of the shard that has each sample, int64 (B,)."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def locate(self, row: int) -> tuple[Shard, int]:
        """Returns the shard of one sample, and the sample's index in it."""
        number = int(self.shard_numbers(np.array(row)))
        return self.shard(number), row - int(self.starts[number])

    def fill_codes(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 (B, *`layout.view_shape`), with codes, or rows, of fixed geometry.

        `stored`, int64 (B,), holds row × views + view of each sample.
        """
        self._codes_gatherer.fill(stored, out)

    @cached_property
    def labels(self) -> np.ndarray:
        """The labels of all samples, as `LabelSpec` describes them; see `LatentDataset.labels`."""
        self.fetch()
        spec = self.layout.labels
        if spec.kind == "none":
            return spec.unlabeled(len(self))
        parts = [shard.labels for shard in map(self.shard, range(self.num_shards)) if shard.labels is not None]
        labels = np.concatenate([np.empty((0, *spec.sample_shape), spec.dtype), *parts])
        self.require_valid(labels, np.arange(len(labels)))
        return labels

    def labels_at(self, rows: np.ndarray) -> np.ndarray:
        """Returns the labels of `rows`, without opening other shards."""
        if "labels" in vars(self):
            return self.labels[rows]
        if self.layout.labels.kind == "none":
            return self.layout.labels.unlabeled(len(rows))
        labels = np.empty((len(rows), *self._label_shape), self._label_dtype)
        if len(rows):
            self._labels_gatherer.fill(rows, labels.reshape(len(rows), -1).view(np.uint8))
        self.require_valid(labels, rows)
        return labels

    def require_valid(self, labels: np.ndarray, rows: np.ndarray) -> None:
        """Raise `DamagedError` unless the labels of these rows are valid for their kind."""
        spec = self.layout.labels
        if (invalid := np.flatnonzero(spec.invalid(labels))).size:
            first = invalid[0]
            raise DamagedError(
                f"{self.folder}, split {self.name!r}: label {labels[first].tolist()} of sample {rows[first]}, "
                f"expected {spec.valid_values}; run `cdl verify --full`"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory maps: a worker process opens its own instead of receiving copies."""
        names = ("folder", "files", "manifest", "name", "num_planes")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _label_bytes(self, number: int) -> np.ndarray:
        """Returns the mapped labels of a shard, uint8 (N, bytes per label); the split must have labels."""
        labels = self.shard(number).labels
        assert labels is not None  # the layout has labels, so every shard that has samples has them
        return labels.reshape(len(labels), -1).view(np.uint8)
