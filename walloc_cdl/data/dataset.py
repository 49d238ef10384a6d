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
from walloc_cdl.latents import ChannelStatistics, Manifest, Shard, channel_statistics
from walloc_cdl.spec import LatentSpec
from walloc_cdl.synthesis import FILE_NAME, SynthesisBank, synthesis_from_bytes

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
    """Open one split of a data set; reads the manifest only, shards are mapped when first touched.

    `view` is the one of stored views that is read. `folder` may be an address, as "hf://datasets/OWNER/NAME",
    "s3://…" or "https://…": shards then come whole, when first touched, into the folder `cache_dir` (by default
    `WALLOC_CDL_CACHE`, else one for caches) of at most `cache_bytes` (by default `WALLOC_CDL_CACHE_BYTES`, else
    50 GB), and are checked against their SHA-256.

    Raises `CallError` for a folder that is no data set, an unknown split or view, and a split that is larger than the
    cache, `DamagedError` for a broken manifest, `JobError` for an address that cannot be read.
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
    """Samples of one split: codes uint8 (K, h, w), or (K, t) of audio, and labels as `LabelSpec` says, -1 without.

    Of stored views, `view` is the one that is read. Samples of ragged geometry are read one at a time, or in
    batches of crops by `LatentLoader`.

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
            raise CallError(f"view {view} of {folder}, which has {self.num_views}, counted from 0: {self.view_names}")
        self._entries = manifest.shards_of(split)
        self._shards: dict[int, Shard] = {}
        self._starts = np.cumsum([0, *(entry.num_samples for entry in self._entries)])
        self._codes_gatherer = RowGatherer(self.shard_codes, self.stored_starts)
        self._labels_gatherer = RowGatherer(self._label_bytes, self.shard_starts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | torch.Tensor]:
        """Codes uint8 (K, h, w) and the label of one sample; negative indices count from the end.

        The label is an int for class numbers, otherwise a tensor: uint8 (L,), float32 () or (T,).
        """
        row = int(self._require_rows([index + len(self) if index < 0 else index])[0])
        number = int(self._shard_numbers(np.array(row)))
        shard, place = self.shard(number), row - int(self._starts[number])
        codes = shard.sample_codes(place)
        chosen = torch.from_numpy((codes[self.view] if self.num_views > 1 else codes).copy())
        labels = self.layout.labels.unlabeled(1) if shard.labels is None else shard.labels[place : place + 1]
        self._require_valid(labels, np.array([row]))
        return chosen, int(labels[0]) if labels.dtype == np.int64 else torch.from_numpy(np.array(labels[0]))

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """A whole batch, for torch's DataLoader, which then needs `collate_fn=LatentDataset.collate`."""
        return self.gather(indices)

    @staticmethod
    def collate(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch as it is: `__getitems__` has stacked it already."""
        return batch

    def gather(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes uint8 (B, K, h, w) and labels (B, …) of samples, in the order asked for.

        Raises `IndexError` outside 0 … len - 1, `DamagedError` if a shard is not what the manifest says, and
        `CallError` for samples that differ in size.
        """
        if self.layout.ragged:
            raise CallError(
                f"samples of {self.folder} differ in size, so they make no batch; "
                "use LatentLoader with crop=(h, w), or dataset[i]"
            )
        rows = self._require_rows(indices)
        out = np.empty((len(rows), *self.latent_shape), np.uint8)
        self.gather_into(rows * self.num_views + self.view, out)
        return torch.from_numpy(out), torch.from_numpy(self._labels_at(rows))

    def gather_into(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 (B, K, h, w), with the codes of `stored`, for loops: sample × views + view of each.

        They must be in range.
        """
        self._codes_gatherer.fill(stored, out)

    def keys(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The names of samples, in the order asked for."""
        rows = self._require_rows(indices)
        shard_numbers = self._shard_numbers(rows)
        return [
            self.shard(number).keys([row - self._starts[number]])[0]
            for number, row in zip(shard_numbers, rows, strict=True)
        ]

    def signal_sizes(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Height and width in pixels, int64 (B, 2), or length (B, 1), of the signals: what decoded ones are cropped to.

        Of fixed geometry all have the size that the codec was given.
        """
        rows, spec = self._require_rows(indices), self.spec
        if not self.layout.ragged:
            whole = [(side - spec.extra_frames) * spec.stride for side in self.latent_shape[1:]]
            return np.tile(np.array(whole, np.int64), (len(rows), 1))
        numbers = self._shard_numbers(rows)
        sizes = [
            self.shard(number).sizes[row - self._starts[number]] for number, row in zip(numbers, rows, strict=True)
        ]
        return np.array(sizes, np.int64).reshape(len(rows), -1)

    def shard(self, number: int) -> Shard:
        """The split's shard of this number, mapped and checked when first asked for; thread-safe."""
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards.setdefault(number, self.files.open_shard(self._entries[number], self.manifest))
        return shard

    def fetch(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Bring all shards of a remote split into the cache, several at a time; a local one is here already.

        `progress` is called with (done, total) numbers of shards. Drawing a first batch does the same.
        """
        self.files.fetch(self._entries, progress)

    def shard_codes(self, number: int) -> np.ndarray:
        """The mapped codes of a shard without reading them, uint8: (N × views, K, h, w), flat of ragged geometry."""
        codes = self.shard(number).codes
        return codes if self.layout.ragged else codes.reshape(-1, *self.latent_shape)

    @property
    def shard_starts(self) -> np.ndarray:
        """int64 (shards + 1,): the index of each shard's first sample, and the number of samples."""
        return self._starts

    @property
    def stored_starts(self) -> np.ndarray:
        """The same in stored views: times the number of views."""
        return self._starts * self.num_views

    @property
    def num_views(self) -> int:
        """Stored variants of each sample."""
        return self.layout.num_views

    @property
    def view_names(self) -> list[str] | None:
        """What they are, the evaluation crop first; None for a single one."""
        return self.manifest.views

    @property
    def spec(self) -> LatentSpec:
        """The spec that every sample obeys."""
        return self.manifest.spec

    @property
    def latent_shape(self) -> tuple[int | None, ...]:
        """(K, h, w) of every image, (K, t) of every piece of audio; None for the sizes of ragged geometry."""
        return self.manifest.latent_shape

    @property
    def class_names(self) -> list[str] | None:
        """Names in the order of the labels; None for a data set without classes."""
        return self.manifest.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 for a data set without."""
        return len(self.class_names or [])

    @cached_property
    def labels(self) -> np.ndarray:
        """Of the whole split, as `LabelSpec` says: int64 (N,), -1 where unknown, also without labels; uint8 (N, L);
        float32 (N,) or (N, T). Reads every shard's labels once, and fetches all shards of a remote split first.

        Raises `DamagedError` for labels that their kind cannot have, which would crash a loss on the device.
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
        """Channel statistics of the train split, of this one where there is no train split."""
        histograms = self.manifest.histograms
        return channel_statistics(histograms.get(TRAIN_SPLIT, histograms[self.split]), self.spec)

    @cached_property
    def synthesis_bank(self) -> SynthesisBank:
        """The data set's linear syntheses by block size.

        Raises `CallError` for a data set without any, as those of audio are, and `DamagedError` if the file
        is missing or broken.
        """
        entry = self.manifest.files.get(SYNTHESIS_PATH)
        if entry is None:
            why = "its channels are too many for one"
            if self.spec.kind == "audio" or self.layout.ragged:
                why = "audio has none" if self.spec.kind == "audio" else "its samples differ in size"
            raise CallError(f"{self.folder} has no linear synthesis ({why}); use the `channels` stem for images")
        path = self.files.path(SYNTHESIS_PATH, entry)
        if not path.is_file():
            raise DamagedError(f"{path} is missing; restore it from a copy or prepare the data set again")
        return synthesis_from_bytes(path.read_bytes(), spec=self.spec, origin=str(path))

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps, which a worker process makes for itself instead of receiving them as copies."""
        state = {"folder": self.folder, "manifest": self.manifest, "split": self.split}
        return {**state, "view": self.view, "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _labels_at(self, rows: np.ndarray) -> np.ndarray:
        """The labels of `rows`, without touching other shards than theirs."""
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
        """The mapped labels of a shard that has samples, of a split that has labels: uint8 (N, bytes of a label)."""
        labels = self.shard(number).labels
        assert labels is not None  # or the layout would have none
        return labels.reshape(len(labels), -1).view(np.uint8)

    def _require_valid(self, labels: np.ndarray, rows: np.ndarray) -> None:
        """Raise `DamagedError` unless the labels of these rows are such as their kind can have."""
        spec = self.layout.labels
        if (wrong := np.flatnonzero(spec.invalid(labels))).size:
            raise DamagedError(
                f"{self.folder}, split {self.split!r}: label {labels[wrong[0]].tolist()} of sample {rows[wrong[0]]}, "
                f"expected {spec.valid_values}; run `cdl verify --full`"
            )

    def _shard_numbers(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _require_rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.asarray(indices, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"sample indices from {rows.min()} to {rows.max()}, expected 0 to {len(self) - 1}")
        return rows
