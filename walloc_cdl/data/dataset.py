"""`LatentDataset`: one split of a data set, memory-mapped, read in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from walloc_cdl.data.files import CachedFiles, DataFiles, LocalFiles, open_files
from walloc_cdl.data.gather import gather_rows
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
    cache_dir: Path | str | None = None,
    cache_bytes: int | None = None,
) -> LatentDataset:
    """Open one split of a data set; reads the manifest only, shards are mapped when first touched.

    `folder` may be an address, as "hf://datasets/OWNER/NAME", "s3://…" or "https://…": shards then come whole, when
    first touched, into the folder `cache_dir` (by default `WALLOC_CDL_CACHE`, else one for caches) of at most
    `cache_bytes` (by default `WALLOC_CDL_CACHE_BYTES`, else 50 GB), and are checked against their SHA-256.

    Raises `CallError` for a folder that is no data set, an unknown split, and a split that is larger than the cache,
    `DamagedError` for a broken manifest, `JobError` for an address that cannot be read.
    """
    files = open_files(folder, cache_dir=cache_dir, cache_bytes=cache_bytes)
    manifest = files.load_manifest()
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits) or 'none'}")
    if isinstance(files, CachedFiles):
        num_bytes = sum(entry.num_bytes for entry in manifest.shards_of(split))
        files.require_room(num_bytes, f"split {split!r} of {folder}")
    return LatentDataset(folder if isinstance(files, CachedFiles) else files.folder, manifest, split, files)


class LatentDataset(Dataset):
    """Samples of one split: codes uint8 (K, h, w), or (K, t) of audio, and labels, -1 where unknown.

    >>> dataset = open_latents("DATA/flowers")                                        # doctest: +SKIP
    >>> codes, labels = dataset.gather([5, 0, 7])    # uint8 (3, K, h, w), int64 (3,)  # doctest: +SKIP
    >>> loader = DataLoader(dataset, batch_size=64, collate_fn=dataset.collate)       # doctest: +SKIP
    """

    def __init__(self, folder: Path | str, manifest: Manifest, split: str, files: DataFiles | None = None) -> None:
        self.folder = folder
        self.files = LocalFiles(Path(folder)) if files is None else files
        self.manifest = manifest
        self.split = split
        self._entries = manifest.shards_of(split)
        self._shards: list[Shard | None] = [None] * len(self._entries)
        self._starts = np.cumsum([0, *(entry.num_samples for entry in self._entries)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Codes uint8 (K, h, w) and the label of one sample; negative indices count from the end."""
        codes, labels = self.gather([index + len(self) if index < 0 else index])
        return codes[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """A whole batch, for torch's DataLoader, which then needs `collate_fn=LatentDataset.collate`."""
        return self.gather(indices)

    @staticmethod
    def collate(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch as it is: `__getitems__` has stacked it already."""
        return batch

    def gather(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes uint8 (B, K, h, w) and labels int64 (B,) of samples, in the order asked for.

        Raises `IndexError` outside 0 … len - 1, `DamagedError` if a shard is not what the manifest says.
        """
        rows = self._require_rows(indices)
        out = np.empty((len(rows), *self.latent_shape), np.uint8)
        self.gather_into(rows, out, np.empty_like(out))
        return torch.from_numpy(out), torch.from_numpy(self._labels_at(rows))

    def gather_into(self, rows: np.ndarray, out: np.ndarray, scratch: np.ndarray) -> None:
        """Fill `out`, uint8 (B, K, h, w), with the codes of `rows`, which must lie in 0 … len - 1; for loops.

        `scratch` is as large as `out` and is overwritten.
        """
        gather_rows(self.shard_codes, self._starts, rows, out, scratch)

    def keys(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The names of samples, in the order asked for."""
        rows = self._require_rows(indices)
        shard_numbers = self._shard_numbers(rows)
        return [
            self.shard(number).keys([row - self._starts[number]])[0]
            for number, row in zip(shard_numbers, rows, strict=True)
        ]

    def shard(self, number: int) -> Shard:
        """The split's shard of this number, mapped and checked when first asked for."""
        shard = self._shards[number]
        if shard is None:
            shard = self.files.open_shard(self._entries[number], self.manifest)
            self._shards[number] = shard
        return shard

    def fetch(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Bring all shards of a remote split into the cache, several at a time; a local one is here already.

        `progress` is called with (done, total) numbers of shards. Drawing a first batch does the same.
        """
        self.files.fetch(self._entries, progress)

    def shard_codes(self, number: int) -> np.ndarray:
        """The mapped codes of a shard, uint8 (N, K, h, w), without reading them."""
        return self.shard(number).codes

    @property
    def shard_starts(self) -> np.ndarray:
        """int64 (shards + 1,): the index of each shard's first sample, and the number of samples."""
        return self._starts

    @property
    def spec(self) -> LatentSpec:
        """The spec that every sample obeys."""
        return self.manifest.spec

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(K, h, w) of every image, (K, t) of every piece of audio."""
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
        """int64 (N,) for the whole split, -1 where unknown; reads every shard's labels once, fetching them all first.

        Raises `DamagedError` for a label without a class name.
        """
        self.fetch()
        parts = [
            np.full(len(shard), -1, np.int64) if shard.labels is None else shard.labels
            for shard in map(self.shard, range(len(self._entries)))
        ]
        labels = np.concatenate([np.empty(0, np.int64), *parts])
        self._require_known(labels)
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
            why = "audio has none" if self.spec.kind == "audio" else "its channels are too many for one"
            raise CallError(f"{self.folder} has no linear synthesis ({why}); use the `channels` stem for images")
        path = self.files.path(SYNTHESIS_PATH, entry)
        if not path.is_file():
            raise DamagedError(f"{path} is missing; restore it from a copy or prepare the data set again")
        return synthesis_from_bytes(path.read_bytes(), spec=self.spec, origin=str(path))

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps, which a worker process makes for itself instead of receiving them as copies."""
        return {"folder": self.folder, "manifest": self.manifest, "split": self.split, "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _labels_at(self, rows: np.ndarray) -> np.ndarray:
        """The labels of `rows`; of a remote split without touching other shards than theirs."""
        if isinstance(self.files, LocalFiles) or "labels" in vars(self):
            return self.labels[rows]
        numbers = self._shard_numbers(rows)
        labels = np.full(len(rows), -1, np.int64)
        for number in np.unique(numbers):
            if (stored := self.shard(int(number)).labels) is not None:
                labels[numbers == number] = stored[rows[numbers == number] - self._starts[number]]
        self._require_known(labels)
        return labels

    def _require_known(self, labels: np.ndarray) -> None:
        """Raise `DamagedError` for a label without a class name, which would crash a loss on the device."""
        if self.class_names is not None and len(labels) and not -1 <= labels.min() <= labels.max() < self.num_classes:
            raise DamagedError(
                f"{self.folder}, split {self.split!r}: labels from {labels.min()} to {labels.max()}, "
                f"expected -1 to {self.num_classes - 1}; run `cdl verify --full`"
            )

    def _shard_numbers(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _require_rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.asarray(indices, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"sample indices from {rows.min()} to {rows.max()}, expected 0 to {len(self) - 1}")
        return rows
