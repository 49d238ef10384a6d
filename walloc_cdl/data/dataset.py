"""`LatentDataset`: one split of a data set, memory-mapped, read in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from walloc_cdl.data.files import CachedFiles, DataFiles, LocalFiles, open_files
from walloc_cdl.data.gather import RowGatherer
from walloc_cdl.errors import CallError, DamagedError, unknown_name
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import ChannelStatistics, Manifest, Shard, channel_statistics
from walloc_cdl.spec import LatentSpec
from walloc_cdl.synthesis import FILE_NAME, MAX_FILE_BYTES, SynthesisBank, synthesis_from_bytes

SYNTHESIS_PATH = f"codec/{FILE_NAME}"
TRAIN_SPLIT = "train"


def open_latents(
    folder: Path | str,
    split: str = TRAIN_SPLIT,
    *,
    view: int = 0,
    cache_dir: Path | str | None = None,
    cache_bytes: int | None = None,
) -> LatentDataset:
    """Open one split of a data set; only the manifest is read, and shards are mapped on first use.

    `view` selects one of the stored views. `folder` may be an address, such as "hf://datasets/OWNER/NAME",
    "s3://…" or "https://…": whole shards are then fetched on first use into the folder `cache_dir` (by default
    `WALLOC_CDL_CACHE`, or else a folder in the user's cache folder) of at most `cache_bytes` (by default
    `WALLOC_CDL_CACHE_BYTES`, or else 50 GB), and checked against their SHA-256.

    Raises `CallError` for a folder that is not a data set, an unknown split or view, and a split that is larger than
    the cache, `DamagedError` for a broken manifest, `JobError` for an address that cannot be read.
    """
    files = open_files(folder, cache_dir=cache_dir, cache_bytes=cache_bytes)
    manifest = files.load_manifest()
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits) or 'none'}")
    if isinstance(files, CachedFiles):
        num_bytes = sum(entry.num_bytes for entry in manifest.shards_of(split))
        files.require_room(num_bytes, f"split {split!r} of {folder}")
    return LatentDataset(folder if isinstance(files, CachedFiles) else files.folder, manifest, split, view, files)


class LatentDataset(Dataset):
    """Samples of one split: codes uint8 (K, h, w), or (K, t) for audio, and labels.

    Labels are those of `LabelSpec`, and -1 for data without labels. `view` selects one of the stored views. Samples
    of ragged geometry are read one at a time, or in batches of crops by `LatentLoader`.

    >>> dataset = open_latents("DATA/flowers")                                        # doctest: +SKIP
    >>> codes, labels = dataset.gather([5, 0, 7])    # uint8 (3, K, h, w), int64 (3,)  # doctest: +SKIP
    >>> loader = DataLoader(dataset, batch_size=64, collate_fn=dataset.collate)       # doctest: +SKIP
    """

    def __init__(
        self, folder: Path | str, manifest: Manifest, split: str, view: int = 0, files: DataFiles | None = None
    ) -> None:
        self.folder = folder
        self.files = LocalFiles(Path(folder)) if files is None else files
        self.manifest = manifest
        self.split = split
        self.layout = manifest.layout
        self.view = view
        if not 0 <= view < self.num_views:
            raise CallError(
                f"view {view} of {folder}, which stores {self.num_views} views, counted from 0: {self.view_names}"
            )
        self._entries = manifest.shards_of(split)
        self._shards: dict[int, Shard] = {}
        self._starts = np.cumsum([0, *(entry.num_samples for entry in self._entries)])
        self._codes_gatherer = RowGatherer(self.shard_codes, self.stored_starts)
        self._labels_gatherer = RowGatherer(self._label_bytes, self.shard_starts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | torch.Tensor]:
        """Returns codes uint8 (K, h, w) and the label of one sample; negative indices count from the end.

        The label is an int for class numbers, otherwise a tensor: uint8 (L,), float32 () or (T,).
        """
        row = int(self._require_rows([index + len(self) if index < 0 else index])[0])
        number = int(self._shard_numbers(np.array(row)))
        shard, index_in_shard = self.shard(number), row - int(self._starts[number])
        stored = shard.sample_codes(index_in_shard)
        codes = torch.from_numpy((stored[self.view] if self.num_views > 1 else stored).copy())
        if shard.labels is None:
            labels = self.layout.labels.unlabeled(1)
        else:
            labels = shard.labels[index_in_shard : index_in_shard + 1]
        self._require_valid(labels, np.array([row]))
        return codes, int(labels[0]) if labels.dtype == np.int64 else torch.from_numpy(np.array(labels[0]))

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a whole batch, for torch's DataLoader, which then needs `collate_fn=LatentDataset.collate`."""
        return self.gather(indices)

    @staticmethod
    def collate(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the batch unchanged, since `__getitems__` has stacked it already."""
        return batch

    def gather(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns codes uint8 (B, K, h, w) and labels (B, …) of samples, in the order of `indices`.

        Raises `IndexError` outside 0 … len - 1, `DamagedError` if a shard does not match the manifest, and
        `CallError` for samples that differ in size.
        """
        if self.layout.ragged:
            raise CallError(
                f"samples of {self.folder} differ in size, so they cannot be batched; "
                "use LatentLoader with crop=(h, w), or dataset[i]"
            )
        rows = self._require_rows(indices)
        out = np.empty((len(rows), *self.latent_shape), np.uint8)
        self.gather_into(rows * self.num_views + self.view, out)
        return torch.from_numpy(out), torch.from_numpy(self._labels_at(rows))

    def gather_into(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 (B, K, h, w), with codes, for use in loops.

        `stored`, int64 (B,), holds sample × views + view of each, which must be in range.
        """
        self._codes_gatherer.fill(stored, out)

    def keys(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Returns the keys of samples, in the order of `indices`."""
        rows = self._require_rows(indices)
        shard_numbers = self._shard_numbers(rows)
        return [
            self.shard(number).keys([row - self._starts[number]])[0]
            for number, row in zip(shard_numbers, rows, strict=True)
        ]

    def signal_sizes(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the sizes of the signals, to which decoded ones are cropped.

        They are height and width in pixels, int64 (B, 2), or the length, int64 (B, 1). In fixed geometry all signals
        have the size that was encoded.
        """
        rows, spec = self._require_rows(indices), self.spec
        if not self.layout.ragged:
            size = [(side - spec.extra_frames) * spec.stride for side in self.latent_shape[1:]]
            return np.tile(np.array(size, np.int64), (len(rows), 1))
        numbers = self._shard_numbers(rows)
        sizes = [
            self.shard(number).sizes[row - self._starts[number]] for number, row in zip(numbers, rows, strict=True)
        ]
        return np.array(sizes, np.int64).reshape(len(rows), -1)

    def shard(self, number: int) -> Shard:
        """Returns the split's shard of this number, mapped and checked on first use; thread-safe."""
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards.setdefault(number, self.files.open_shard(self._entries[number], self.manifest))
        return shard

    def fetch(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Fetch all shards of a remote split into the cache, several in parallel; does nothing for a local one.

        `progress` is called with the numbers (done, total) of shards. Reading the first batch does the same.
        """
        self.files.fetch(self._entries, progress)

    def shard_codes(self, number: int) -> np.ndarray:
        """Returns the mapped codes of a shard without reading them, uint8 (N × views, K, h, w); flat if ragged."""
        codes = self.shard(number).codes
        return codes if self.layout.ragged else codes.reshape(-1, *self.latent_shape)

    @property
    def shard_starts(self) -> np.ndarray:
        """The index of each shard's first sample, and the number of samples, int64 (shards + 1,)."""
        return self._starts

    @property
    def stored_starts(self) -> np.ndarray:
        """`shard_starts` counted in stored views, int64 (shards + 1,)."""
        return self._starts * self.num_views

    @property
    def num_views(self) -> int:
        """Number of stored views of each sample."""
        return self.layout.num_views

    @property
    def view_names(self) -> list[str] | None:
        """Descriptions of the views, the evaluation crop first; None if there is one view only."""
        return self.manifest.views

    @property
    def spec(self) -> LatentSpec:
        """The spec of all samples."""
        return self.manifest.spec

    @property
    def latent_shape(self) -> tuple[int | None, ...]:
        """(K, h, w) for images, (K, t) for audio; the sizes are None in ragged geometry."""
        return self.manifest.latent_shape

    @property
    def class_names(self) -> list[str] | None:
        """Class names in the order of the labels; None for a data set without classes."""
        return self.manifest.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for a data set without classes."""
        return len(self.class_names or [])

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of the whole split, as `LabelSpec` describes them.

        They are int64 (N,), -1 where unknown and for data without labels; uint8 (N, L); or float32 (N,) or (N, T).
        Reads every shard's labels once, and fetches all shards of a remote split first.

        Raises `DamagedError` for labels that are invalid for their kind, which would crash a loss on the device.
        """
        self.fetch()
        spec = self.layout.labels
        if spec.kind == "none":
            return spec.unlabeled(len(self))
        parts = [shard.labels for shard in map(self.shard, range(len(self._entries))) if shard.labels is not None]
        labels = np.concatenate([np.empty((0, *spec.sample_shape), spec.dtype), *parts])
        self._require_valid(labels, np.arange(len(labels)))
        return labels

    @cached_property
    def statistics(self) -> ChannelStatistics:
        """Channel statistics of the train split, or of this split if there is no train split."""
        histograms = self.manifest.histograms
        return channel_statistics(histograms.get(TRAIN_SPLIT, histograms[self.split]), self.spec)

    @cached_property
    def synthesis_bank(self) -> SynthesisBank:
        """The data set's linear syntheses by block size.

        Raises `CallError` for a data set without any, such as one of audio, and `DamagedError` if the file
        is missing or broken.
        """
        entry = self.manifest.files.get(SYNTHESIS_PATH)
        if entry is None:
            reason = "it has too many channels"
            if self.spec.kind == "audio" or self.layout.ragged:
                reason = "audio has none" if self.spec.kind == "audio" else "its samples differ in size"
            raise CallError(f"{self.folder} has no linear synthesis ({reason}); use the `channels` stem for images")
        if entry.num_bytes > MAX_FILE_BYTES:
            raise DamagedError(
                f"{self.folder}: {SYNTHESIS_PATH} of {entry.num_bytes} bytes, "
                f"expected at most {MAX_FILE_BYTES}; {REMEDY}"
            )
        path = self.files.path(SYNTHESIS_PATH, entry)
        if not path.is_file():
            raise DamagedError(f"{path} is missing; restore it from a copy or prepare the data set again")
        if (found := path.stat().st_size) != entry.num_bytes:
            raise DamagedError(f"{path}: {found} bytes, expected {entry.num_bytes}; {REMEDY}")
        return synthesis_from_bytes(path.read_bytes(), spec=self.spec, origin=str(path))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory maps: a worker process opens its own instead of receiving copies."""
        state = {"folder": self.folder, "manifest": self.manifest, "split": self.split}
        return {**state, "view": self.view, "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _labels_at(self, rows: np.ndarray) -> np.ndarray:
        """Returns the labels of `rows`, without opening other shards."""
        if "labels" in vars(self):
            return self.labels[rows]
        spec = self.layout.labels
        if spec.kind == "none":
            return spec.unlabeled(len(rows))
        stored = np.empty((len(rows), spec.dtype.itemsize * math.prod(spec.sample_shape)), np.uint8)
        self._labels_gatherer.fill(rows, stored)
        labels = stored.view(spec.dtype).reshape(len(rows), *spec.sample_shape)
        self._require_valid(labels, rows)
        return labels

    def _label_bytes(self, number: int) -> np.ndarray:
        """Returns the mapped labels of a shard, uint8 (N, bytes per label); the split must have labels."""
        labels = self.shard(number).labels
        assert labels is not None  # the layout has labels, so every shard that has samples has them
        return labels.reshape(len(labels), -1).view(np.uint8)

    def _require_valid(self, labels: np.ndarray, rows: np.ndarray) -> None:
        """Raise `DamagedError` unless the labels of these rows are valid for their kind."""
        spec = self.layout.labels
        if (invalid := np.flatnonzero(spec.invalid(labels))).size:
            first = invalid[0]
            raise DamagedError(
                f"{self.folder}, split {self.split!r}: label {labels[first].tolist()} of sample {rows[first]}, "
                f"expected {spec.valid_values}; run `cdl verify --full`"
            )

    def _shard_numbers(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _require_rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.asarray(indices, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"sample indices from {rows.min()} to {rows.max()}, expected 0 to {len(self) - 1}")
        return rows
