"""`LatentDataset`: samples of one split of a data set, memory-mapped, read in batches."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from walloc_cdl.data.batch import GatheredSamples, LatentBatch, LatentSample
from walloc_cdl.data.files import CachedFiles, LocalFiles, open_files
from walloc_cdl.data.stored_split import StoredSplit
from walloc_cdl.errors import CallError, CdlError, DamagedError, unknown_name
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import ChannelStatistics, Manifest, Shard, channel_statistics
from walloc_cdl.latents.packing import to_codes
from walloc_cdl.latents.statistics import prefix_histogram
from walloc_cdl.linear.operators import FILE_PATH as OPERATORS_PATH
from walloc_cdl.linear.operators import MAX_FILE_BYTES as MAX_OPERATORS_BYTES
from walloc_cdl.linear.operators import LatentOperators, operators_from_bytes
from walloc_cdl.linear.synthesis import FILE_NAME, MAX_FILE_BYTES, SynthesisBank, synthesis_from_bytes
from walloc_cdl.planes.levels import FILE_PATH as LEVELS_PATH
from walloc_cdl.planes.levels import MAX_FILE_BYTES as MAX_LEVELS_BYTES
from walloc_cdl.planes.levels import LevelTables, levels_from_bytes
from walloc_cdl.planes.rows import planes_for_bytes
from walloc_cdl.spec import LatentSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from walloc_cdl.codec import Codec

CODEC_FOLDER = "codec"
SYNTHESIS_PATH = f"{CODEC_FOLDER}/{FILE_NAME}"
SHOWN_SAMPLES = 8
"""Number of samples that a notebook shows of a data set."""
TRAIN_SPLIT = "train"

Indices: TypeAlias = Sequence[int] | np.ndarray | torch.Tensor
"""Numbers of samples."""


def open_latents(
    folder: Path | str,
    split: str = TRAIN_SPLIT,
    *,
    bytes: int | None = None,
    num_planes: int | None = None,
    view: int = 0,
    cache_dir: Path | str | None = None,
    cache_bytes: int | None = None,
) -> LatentDataset:
    """Open one split of a data set; only the manifest is read, and shards are mapped on first use.

    Of latents with bit planes, `bytes` or `num_planes` selects a prefix: the front of every stored row, which is the
    same sample at a lower rate. `bytes`, of one view of a sample, is rounded down to whole planes. The same shards are
    mapped, and only the front of each row is read. This saves memory and traffic, not cold reads: a system reads whole
    pages from its disk, and of a remote data set whole shards are fetched.

    `view` selects one of the stored views. `folder` may be an address, such as "hf://datasets/OWNER/NAME",
    "s3://…" or "https://…": whole shards are then fetched on first use into the folder `cache_dir` (by default
    `WALLOC_CDL_CACHE`, or else a folder in the user's cache folder) of at most `cache_bytes` (by default
    `WALLOC_CDL_CACHE_BYTES`, or else 50 GB), and checked against their SHA-256.

    Raises `CallError` for a folder that is not a data set, an unknown split or view, a split that is larger than the
    cache, and a prefix that is larger than the stored rows or of latents without bit planes, `DamagedError` for a
    broken manifest, `JobError` for an address that cannot be read.
    """
    files = open_files(folder, cache_dir=cache_dir, cache_bytes=cache_bytes)
    manifest = files.load_manifest()
    if split not in manifest.splits:
        raise unknown_name("split", split, manifest.splits, f"{folder} has {', '.join(manifest.splits) or 'none'}")
    if isinstance(files, CachedFiles):
        num_bytes = sum(entry.num_bytes for entry in manifest.shards_of(split))
        files.require_room(num_bytes, f"split {split!r} of {folder}")
    location = folder if isinstance(files, CachedFiles) else files.folder
    return LatentDataset(StoredSplit(location, files, manifest, split, _num_planes(manifest, bytes, num_planes)), view)


def _num_planes(manifest: Manifest, num_bytes: int | None, num_planes: int | None) -> int | None:
    """Returns the number of bit planes that are read, None for all that are stored."""
    if num_bytes is None:
        return num_planes
    if num_planes is not None:
        raise CallError(f"bytes {num_bytes} and num_planes {num_planes} both select a prefix; omit one of them")
    if manifest.layout.ragged:
        raise CallError(
            f"{num_bytes:,} bytes a sample, but the samples differ in size, and so do their rows; give num_planes, "
            f"1 to {manifest.spec.num_planes}"
        )
    return planes_for_bytes(manifest.spec, manifest.layout.grid, num_bytes)


def as_latents(dataset: Dataset) -> LatentDataset:
    """Returns the samples of a torch data set as a `LatentDataset`.

    It may be a `LatentDataset`, or a `torch.utils.data.Subset` of one, such as `random_split` makes, also a subset of
    a subset. Raises `CallError` for others, saying what to use.
    """
    if isinstance(dataset, LatentDataset):
        return dataset
    # A subclass with samples of its own may do anything with them, such as transforms, which would be lost.
    if isinstance(dataset, Subset) and type(dataset).__getitem__ is Subset.__getitem__:
        return as_latents(dataset.dataset).select(dataset.indices)
    raise CallError(
        f"the data set is a {type(dataset).__name__}; expected one of open_latents, or a Subset of it; "
        "read others with torch's DataLoader, or join data sets with `cdl merge`"
    )


class LatentDataset(Dataset):
    """Samples of one split, or a selection of them: codes uint8 (K, h, w), or (K, t) for audio, and labels.

    Samples of latents with bit planes are stored packed, and unpacked when they are read; `LatentLoader` gives their
    rows. Labels are those of `LabelSpec`, and -1 for data without labels. `view` selects one of the stored views.
    Samples of ragged geometry are read one at a time, or in batches of crops by `LatentLoader`.

    `dataset[i]` is a `LatentSample`, `dataset[[i, j]]` a `LatentBatch`, and `dataset[i:j]` a `LatentDataset`. A torch
    `DataLoader` reads whole batches, and yields `LatentBatch`.

    >>> dataset = open_latents("DATA/flowers")                                        # doctest: +SKIP
    >>> codes, labels = dataset.gather([5, 0, 7])    # uint8 (3, K, h, w), int64 (3,)  # doctest: +SKIP
    >>> loader = DataLoader(dataset, batch_size=64, shuffle=True)                     # doctest: +SKIP
    """

    def __init__(self, stored: StoredSplit, view: int = 0, rows: np.ndarray | None = None) -> None:
        self.stored = stored
        self.folder = stored.folder
        self.manifest = stored.manifest
        self.split = stored.name
        self.layout = stored.layout
        self.view = view
        self.rows = rows
        """The rows of a selection in the split, int64 (N,); None for the whole split."""
        if not 0 <= view < self.num_views:
            raise CallError(
                f"view {view} of {self.folder}, which stores {self.num_views} views, counted from 0: {self.view_names}"
            )

    def __repr__(self) -> str:
        count = f"{len(self):,}" if self.rows is None else f"{len(self):,} of {len(self.stored):,}"
        sizes = "codes of any size" if self.layout.ragged else f"codes {tuple(self.latent_shape)}"
        if self.layout.packed:
            stored = self.manifest.spec.num_planes
            part = "" if self.spec.num_planes == stored else f" of {stored}"
            sizes = f"{sizes} in {self.spec.num_planes}{part} bit planes"
        views = f", view {self.view} of {self.num_views}" if self.num_views > 1 else ""
        labels = self.layout.labels
        classes = f"{self.num_classes:,} classes" if self.class_names else ""
        kinds = {"none": "no labels", "class": classes, "multilabel": f"any of {classes}", "regression": "targets"}
        return (
            f"LatentDataset({str(self.folder)!r}, split {self.split!r}: {count} samples, {sizes}{views}, "
            f"{kinds[labels.kind] or 'class numbers'})"
        )

    def _repr_html_(self) -> str:
        """Returns the description and the first samples' pictures, for notebooks; nothing is fetched for it."""
        from walloc_cdl.codec.pictures import to_html

        pictures = []
        if self.spec.kind == "image" and isinstance(self.stored.files, LocalFiles):
            # A damaged data set has a description, too; reading it says what is wrong.
            with contextlib.suppress(CdlError, OSError):
                pictures = [(self.image(row), self.label_text(row)) for row in range(min(len(self), SHOWN_SAMPLES))]
        return to_html(repr(self), pictures)

    def __len__(self) -> int:
        return len(self.stored) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> LatentSample: ...

    @overload
    def __getitem__(self, index: slice) -> LatentDataset: ...

    @overload
    def __getitem__(self, index: Indices) -> LatentBatch: ...

    def __getitem__(self, index: Any) -> LatentSample | LatentBatch | LatentDataset:
        """Returns one sample, for a list of indices a batch, for a slice a data set; negative ones count from the end.

        Codes are uint8 (K, h, w). The label is an int for class numbers, otherwise a tensor: uint8 (L,), float32 () or
        (T,).
        """
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        if np.ndim(index):
            return self._read(self._require_rows(index, from_end=True))
        row = int(self._require_rows([operator.index(index)], from_end=True)[0])
        shard, index_in_shard = self.stored.locate(row)
        codes = torch.from_numpy(self._sample_codes(shard, index_in_shard))
        if shard.labels is None:
            labels = self.layout.labels.unlabeled(1)
        else:
            labels = shard.labels[index_in_shard : index_in_shard + 1]
        self.stored.require_valid(labels, np.array([row]))
        is_number = labels.dtype == np.int64
        return LatentSample(codes, int(labels[0]) if is_number else torch.from_numpy(np.array(labels[0])))

    def __getitems__(self, indices: Sequence[int]) -> Sequence[LatentSample]:
        """Returns samples for torch's DataLoader, which were read as a whole batch if they have one size."""
        if self.layout.ragged:
            return [self[index] for index in indices]
        return GatheredSamples(self._read(self._require_rows(indices, from_end=True)))

    def _sample_codes(self, shard: Shard, index: int) -> np.ndarray:
        """Returns a copy of the codes of a sample of a shard."""
        if not self.layout.packed:
            codes = shard.sample_codes(index)
            return (codes[self.view] if self.num_views > 1 else codes).copy()
        row = shard.stored(index)
        return to_codes(row[self.view] if self.num_views > 1 else row, self.spec.planes, shard.grid(index))

    def with_planes(self, num_planes: int) -> LatentDataset:
        """Returns the data set of the first bit planes of these samples; see `open_latents`.

        Raises `CallError` for latents without bit planes, and for none or more than are stored.
        """
        stored = self.stored
        prefix = StoredSplit(stored.folder, stored.files, stored.manifest, stored.name, num_planes)
        return LatentDataset(prefix, self.view, self.rows)

    def select(self, indices: Indices) -> LatentDataset:
        """Returns the data set of these samples, in this order; no sample is read.

        Its statistics, synthesis and class names are those of the whole data set. Raises `IndexError` outside
        -len … len - 1.
        """
        return LatentDataset(self.stored, self.view, self._require_rows(indices, from_end=True).copy())

    def gather(self, indices: Indices) -> LatentBatch:
        """Returns codes uint8 (B, K, h, w) and labels (B, …) of samples, in the order of `indices`.

        Raises `IndexError` outside 0 … len - 1, `DamagedError` if a shard does not match the manifest, and
        `CallError` for samples that differ in size.
        """
        return self._read(self._require_rows(indices))

    def keys(self, indices: Indices) -> list[str]:
        """Returns the keys of samples, in the order of `indices`."""
        places = map(self.stored.locate, self._require_rows(indices).tolist())
        return [shard.keys([index])[0] for shard, index in places]

    def signal_sizes(self, indices: Indices) -> np.ndarray:
        """Returns the sizes of the signals, to which decoded ones are cropped.

        They are height and width in pixels, int64 (B, 2), or the length, int64 (B, 1). In fixed geometry all signals
        have the size that was encoded.
        """
        rows, spec = self._require_rows(indices), self.spec
        if not self.layout.ragged:
            size = [(side - spec.extra_frames) * spec.stride for side in self.latent_shape[1:]]
            return np.tile(np.array(size, np.int64), (len(rows), 1))
        sizes = [shard.sizes[index] for shard, index in map(self.stored.locate, rows.tolist())]
        return np.array(sizes, np.int64).reshape(len(rows), -1)

    def fetch(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Fetch all shards of a remote split into the cache, several in parallel; does nothing for a local one.

        `progress` is called with the numbers (done, total) of shards. Reading the first batch does the same.
        """
        self.stored.fetch(progress)

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
        """The spec of all samples, of the bit planes that are read if they have any."""
        return self.layout.spec

    @property
    def latent_shape(self) -> tuple[int | None, ...]:
        """(K, h, w) for images, (K, t) for audio; the sizes are None in ragged geometry."""
        return self.layout.latent_shape

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
        """Labels of all samples, as `LabelSpec` describes them.

        They are int64 (N,), -1 where unknown and for data without labels; uint8 (N, L); or float32 (N,) or (N, T).
        Reads every shard's labels once, and fetches all shards of a remote split first.

        Raises `DamagedError` for labels that are invalid for their kind, which would crash a loss on the device.
        """
        return self.stored.labels if self.rows is None else self.stored.labels[self.rows]

    @property
    def classes(self) -> list[str]:
        """The class names, as torchvision calls them; empty for a data set without classes."""
        return list(self.class_names or [])

    @property
    def targets(self) -> np.ndarray:
        """The labels, as torchvision calls them; see `labels`."""
        return self.labels

    def label_text(self, index: int) -> str:
        """Returns a sample's label as text: its class, its classes, or its targets; empty if it is unknown."""
        label, names = self.stored.labels_at(self._require_rows([index], from_end=True))[0], self.class_names
        if self.layout.labels.kind == "regression":
            return ", ".join(f"{value:g}" for value in np.atleast_1d(label))
        if names is None:
            return ""
        if self.layout.labels.kind == "multilabel":
            return ", ".join(names[number] for number in np.flatnonzero(label))
        return names[label] if label >= 0 else ""

    @cached_property
    def codec(self) -> Codec:
        """The codec of the data set, which decodes it.

        Raises `DamagedError` if its files are missing or broken, and `CallError` for a data set without it.
        """
        from walloc_cdl.codec.io.folder import codec_from_files  # reading of batches needs no codec

        files = self.codec_files()
        if files is None:
            raise CallError(f"{self.folder} has no codec; decode it with the one that it was made with, load_codec")
        return codec_from_files(files, origin=f"{self.folder}/{CODEC_FOLDER}").for_latents(self.spec)

    def codec_files(self) -> dict[str, bytes] | None:
        """Returns `config.json` and `model.safetensors` of the codec; None for a data set without it.

        Raises `DamagedError` if one of them is missing or has changed.
        """
        from walloc_cdl.codec.codec_files import FILE_NAMES

        paths = {name: f"{CODEC_FOLDER}/{name}" for name in FILE_NAMES}
        if not self.manifest.files.keys() >= set(paths.values()):
            return None
        return {name: self.stored.read_file(path) for name, path in paths.items()}

    @cached_property
    def levels(self) -> LevelTables | None:
        """The levels of latents with bit planes, None for others.

        Raises `DamagedError` if their file is missing or broken.
        """
        if not self.layout.packed:
            return None
        origin = f"{self.folder}/{LEVELS_PATH}"
        if LEVELS_PATH not in self.manifest.files:
            raise DamagedError(f"{origin}: not listed in the manifest, though the latents have bit planes; {REMEDY}")
        levels = levels_from_bytes(self.stored.read_file(LEVELS_PATH, MAX_LEVELS_BYTES), origin=origin)
        levels.require_fit(self.manifest.spec, origin=origin)
        return levels

    def image(self, index: int) -> Image:
        """Returns a sample as a PIL picture, decoded with the data set's codec, of the size that was encoded.

        Its mode is L or RGB; arrays of other values or channels are shown in false color. Raises `CallError` for audio.
        """
        from walloc_cdl.codec import to_bytes
        from walloc_cdl.codec.pictures import to_picture
        from walloc_cdl.codec.tiles import decode_tiled

        if self.spec.kind != "image":
            raise CallError(f"{self.folder} holds {self.spec.kind}, which has no picture; decode it with dataset.codec")
        codes = self[index].codes
        with torch.inference_mode():
            if self.layout.ragged:
                height, width = self.signal_sizes([index % len(self)])[0].tolist()
                signal = decode_tiled(self.codec, codes.numpy(), approximate=True)[:, :height, :width]
            else:
                decoded = self.codec.decode(codes[None])[0]
                signal = decoded if self.manifest.preprocessing.get("kind") == "array" else to_bytes(decoded)
        return to_picture(signal.numpy())

    @cached_property
    def statistics(self) -> ChannelStatistics:
        """Channel statistics of the train split, or of this split if there is no train split.

        Those of a prefix are of its own codes: they follow from the histograms of the stored ones.
        """
        histograms = self.manifest.histograms
        histogram = histograms.get(TRAIN_SPLIT, histograms[self.split])
        return channel_statistics(prefix_histogram(histogram, self.manifest.spec, self.spec), self.spec, self.levels)

    @cached_property
    def synthesis_bank(self) -> SynthesisBank:
        """The data set's linear syntheses by block size.

        Those of a prefix are the ones of the stored rows, with the means of the channels that it lacks. Raises
        `CallError` for a data set without any, such as one of audio, and `DamagedError` if the file is missing or
        broken.
        """
        entry = self.manifest.files.get(SYNTHESIS_PATH)
        if entry is None:
            reason = "it has too many channels"
            if self.spec.kind == "audio" or self.layout.ragged:
                reason = "audio has none" if self.spec.kind == "audio" else "its samples differ in size"
            raise CallError(f"{self.folder} has no linear synthesis ({reason}); use the `channels` stem for images")
        origin = f"{self.folder}/{SYNTHESIS_PATH}"
        data = self.stored.read_file(SYNTHESIS_PATH, MAX_FILE_BYTES)
        bank = synthesis_from_bytes(data, spec=self.manifest.spec, origin=origin)
        if self.levels is None or self.spec.latent_channels == self.manifest.spec.latent_channels:
            return bank
        means = self.levels.means()
        return {block: layer.with_channels(self.spec.latent_channels, means) for block, layer in bank.items()}

    @property
    def has_operators(self) -> bool:
        """Whether the data set has operators of flips."""
        return OPERATORS_PATH in self.manifest.files

    @cached_property
    def operators(self) -> LatentOperators:
        """The data set's operators of flips, brightness and contrast, in the units of the latents' values.

        Those of a prefix are the ones of the stored rows, with the means of the channels that it lacks. Raises
        `CallError` for a data set without them, and `DamagedError` if their file is missing or broken.
        """
        if not self.has_operators:
            reason, remedy = "it was made by an earlier version, or has too many channels", "prepare it again, or "
            if self.spec.kind == "audio" or self.layout.ragged:
                reason = "audio has none" if self.spec.kind == "audio" else "its samples differ in size"
                remedy = ""
            raise CallError(
                f"{self.folder} has no operators of flips ({reason}); {remedy}augment what the `synthesis` stem makes, "
                "which needs none"
            )
        origin = f"{self.folder}/{OPERATORS_PATH}"
        data = self.stored.read_file(OPERATORS_PATH, MAX_OPERATORS_BYTES)
        operators = operators_from_bytes(data, spec=self.manifest.spec, origin=origin)
        if self.levels is None or self.spec.latent_channels == self.manifest.spec.latent_channels:
            return operators
        return operators.with_channels(self.spec.latent_channels, self.levels.means())

    def __getstate__(self) -> dict[str, Any]:
        return {"stored": self.stored, "view": self.view, "rows": self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _require_rows(self, indices: Indices, *, from_end: bool = False) -> np.ndarray:
        """Returns the rows in the split of these samples, int64 (B,); `from_end` allows negative indices.

        Raises `IndexError` for anything but a list of integers in range: a mask would read as samples 0 and 1.
        """
        rows = np.asarray(indices)
        if rows.dtype != np.int64 or rows.ndim != 1:
            if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
                raise IndexError(
                    f"sample indices are {rows.dtype} of shape {rows.shape}, expected a list of integers; "
                    "for a mask use numpy.flatnonzero(mask)"
                )
            rows = rows.astype(np.int64)
        count = len(self)
        if len(rows) and not rows.view(np.uint64).max() < count:  # negative ones are larger than any count
            if from_end:
                rows = np.where(rows < 0, rows + count, rows)
            low, high = rows.min(), rows.max()
            if not 0 <= low <= high < count:
                raise IndexError(f"sample indices from {low} to {high}, expected 0 to {count - 1}")
        return rows if self.rows is None else self.rows[rows]

    def _read(self, rows: np.ndarray) -> LatentBatch:
        """Returns the batch of these rows of the split; see `gather`."""
        if self.layout.ragged:
            raise CallError(
                f"samples of {self.folder} differ in size, so they cannot be batched; "
                "use LatentLoader with crop=(h, w), or dataset[i]"
            )
        out = np.empty((len(rows), *self.layout.view_shape), np.uint8)
        self.stored.fill_codes(rows * self.num_views + self.view, out)
        codes = to_codes(out, self.spec.planes, self.layout.grid) if self.layout.packed else out
        return LatentBatch(torch.from_numpy(codes), torch.from_numpy(self.stored.labels_at(rows)))
