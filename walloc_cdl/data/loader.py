"""`LatentLoader`: iterates over batches of a `LatentDataset` on the device."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.data.batch import LatentBatch
from walloc_cdl.data.crops import CropReader, covered_shapes
from walloc_cdl.data.dataset import TRAIN_SPLIT, LatentDataset, as_latents
from walloc_cdl.data.epoch_sampler import EpochPosition, EpochSampler
from walloc_cdl.data.prefetch import prefetch_map
from walloc_cdl.data.readers import DeviceReader, HostReader, Reader
from walloc_cdl.data.residency import choose_residency
from walloc_cdl.data.sampler import BalancedBatches, GlobalBatches, Selection
from walloc_cdl.data.transfer import PinnedCopies
from walloc_cdl.devices import open_device
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.kernels.gpu.unpack import unpack_rows_tensor

_OF_LOADER = ("views", "crop", "sampling")
_STATE_FIELDS = ("batch_size", "num_samples", "seed", "shuffle", *_OF_LOADER)
"""The settings that determine the global batches, which must be equal when a state is resumed."""


SAMPLINGS = ("uniform", "balanced")

DEFAULT_PREFETCH = 4
"""Number of batches prefetched; the prefetching thread is woken for every other batch."""


class LatentLoader:
    """Iterates over `LatentBatch`es, (codes uint8 (B, K, h, w), labels (B, …)), on `device`.

    Latents with bit planes come as the rows that are stored, uint8 (B, R), which `ModelInput` takes as it takes codes;
    with `unpack` they are unpacked to codes, on the device. Crops are always codes.

    `dataset` is a `LatentDataset`, or a `torch.utils.data.Subset` of one; `loader.dataset` is the `LatentDataset` of
    these samples.

    `batch_size` is the size of global batches, over all ranks; rank r gets its slice of each. The order
    follows from (seed, epoch) alone. The first iteration is epoch 0, and each further one is the next epoch, also after
    one that was broken off. `set_epoch`, of the loader or of its `sampler`, chooses another epoch.

    `shuffle` and `drop_last` default to true for the split `train` and to false for other splits.
    `residency`: `mmap` reads shards through the page cache, `ram` copies the split into memory once,
    `device` keeps it on the device and gathers there; `auto` is `device` on a CUDA device with at least
    twice the room, otherwise `mmap`. A thread prefetches `prefetch` batches; with 0 there is no thread.

    If several views are stored, the data set's `view` is read, or with `views="random"` one that is drawn from (seed,
    epoch, position in the order). Samples that differ in size need a `crop` in latents, (h, w) or (t,): it is drawn
    in the same way if the order is shuffled, and in the center otherwise.

    With `sampling="balanced"` an epoch has as many samples as the split, with each class equally often: see
    `BalancedBatches`.

    >>> for epoch in range(10):                                                        # doctest: +SKIP
    ...     for codes, labels in loader:
    ...         loss = cross_entropy(model(codes), labels)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        device: str | torch.device = "cpu",
        shuffle: bool | None = None,
        seed: int = 0,
        residency: str = "auto",
        drop_last: bool | None = None,
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = DEFAULT_PREFETCH,
        views: str | None = None,
        crop: tuple[int, ...] | None = None,
        unpack: bool = False,
        sampling: str = "uniform",
    ) -> None:
        dataset = as_latents(dataset)
        is_train = dataset.split == TRAIN_SPLIT
        if not 0 <= rank < world_size <= batch_size:
            raise CallError(
                f"rank {rank} of {world_size} with batches of {batch_size}; ranks are counted from 0, and "
                "the batch size is that of a global batch, at least one sample per rank"
            )
        if prefetch < 0:
            raise CallError(f"prefetch is {prefetch}; it must be 0 (off) or more")
        if sampling not in SAMPLINGS:
            raise unknown_name("sampling", sampling, SAMPLINGS, f"choose one of {', '.join(SAMPLINGS)}")
        settings = {
            "num_samples": len(dataset),
            "batch_size": batch_size,
            "shuffle": is_train if shuffle is None else shuffle,
            "drop_last": is_train if drop_last is None else drop_last,
            "seed": seed,
        }
        self.sampling = sampling
        if sampling == "balanced":
            self.batches: GlobalBatches = BalancedBatches(**settings, classes=_require_class_numbers(dataset))
        else:
            self.batches = GlobalBatches(**settings)
        _require_views(dataset, views)
        _require_crop(dataset, crop)
        self.dataset = dataset
        self.views = views
        self.crop = None if crop is None else list(crop)
        self.unpack = unpack and dataset.layout.packed and crop is None
        self.device = open_device(device)
        self.residency = choose_residency(residency, dataset, self.device)
        self._shapes = None if crop is None else covered_shapes(dataset, crop)
        self.rank = rank
        self.world_size = world_size
        self.prefetch = prefetch
        # Trainers look for these attributes, to call the sampler's `set_epoch`.
        self.batch_sampler = None
        self.sampler = EpochSampler(self.batches, rank=rank, world_size=world_size)
        self._host_reader: Reader | None = None
        self._device_reader: DeviceReader | None = None

    def __repr__(self) -> str:
        order = "shuffled" if self.batches.shuffle else "in order"
        last = ", the last one dropped if incomplete" if self.batches.drop_last else ""
        rank = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        return (
            f"LatentLoader({len(self):,} batches of {self.batch_size}, {order}{last}{rank}, on {self.device}, "
            f"residency {self.residency}, of {self.dataset!r})"
        )

    @property
    def batch_size(self) -> int:
        """Number of samples of a global batch."""
        return self.batches.batch_size

    def __len__(self) -> int:
        """Number of batches of a whole epoch, also if it is resumed in the middle."""
        return len(self.batches)

    @property
    def epoch(self) -> int:
        """Number of the epoch of the latest iteration, or of the next one if it was chosen since; counted from 0."""
        return self.sampler.position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and so the order, of the next iteration.

        A position from `load_state_dict` is kept within its own epoch only.
        """
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the epoch, the number of its batches that the consumer has received, and the loader's settings.

        `finished` is true if the iteration over the epoch has ended.
        """
        position = self.sampler.position
        return {
            "epoch": position.epoch,
            "batches": position.batches,
            "finished": position.finished,
            **self._identity(),
        }

    def _identity(self) -> dict[str, Any]:
        rows = self.dataset.rows
        settings = {name: getattr(self if name in _OF_LOADER else self.batches, name) for name in _STATE_FIELDS}
        return {
            **settings,
            "num_planes": self.dataset.spec.num_planes,
            "rows_sha256": None if rows is None else sha256_hex(rows.tobytes()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next iteration continue after the received batches; the number of ranks may differ.

        After a finished epoch, the next iteration is the next epoch, or empty if `set_epoch` chooses the same epoch.
        If all batches had been received, but the iteration had not ended, the next iteration is empty and ends it.
        Raises `CallError` if the state belongs to a loader with other batches.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise CallError(
                    f"loader state has {name} {state.get(name)!r}, but this loader has {value!r}; "
                    "resume with the settings of the first run"
                )
        if not 0 <= state["batches"] <= len(self):
            raise CallError(f"loader state has {state['batches']} batches of {len(self)}; start the epoch again")
        finished = state.get("finished", False) and state["batches"] == len(self)
        self.sampler.restore(state["epoch"], state["batches"], finished=finished)

    def __iter__(self) -> Iterator[LatentBatch]:
        yield from self._iterate(self.sampler.begin())  # begins with the first batch, so after a late `set_epoch`

    def with_words(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Iterate over (codes, labels, words), with a random word for each sample, uint64 (B,), on the device.

        Words follow from (seed, epoch, position in the order) alone, so that random choices based on them are the same
        for any number of ranks and after resumption. Torch has few operators for uint64: compute with
        `words.view(torch.int64)`. Epochs advance as in a plain iteration.
        """
        position = self.sampler.begin()
        words = torch.from_numpy(self.batches.step_words(position.epoch).view(np.int64))  # all devices can copy int64
        numbers = range(position.batches, len(self))
        with closing(self._iterate(position)) as batches:
            for number, (codes, labels) in zip(numbers, batches, strict=True):
                part = words[self.batches.part(number, rank=self.rank, world_size=self.world_size)]
                if self.device.type == "cuda":  # a copy from pageable memory would wait for the device
                    part = part.pin_memory()
                yield codes, labels, part.to(self.device, non_blocking=True).view(torch.uint64)

    def _iterate(self, position: EpochPosition) -> Generator[LatentBatch]:
        selections = self.batches.selections(
            position.epoch, draw=self.draws_words(), rank=self.rank, world_size=self.world_size, start=position.batches
        )
        with closing(self.read(selections)) as batches:
            for batch in batches:
                position.batches += 1
                position.begun = True
                yield batch
        position.begun = position.finished = True

    def draws_words(self) -> bool:
        """Returns whether each sample of a batch needs a random word for what is read of it."""
        return self.views is not None or (self.crop is not None and self.batches.shuffle)

    def read(self, selections: Sequence[Selection]) -> Generator[LatentBatch]:
        """Yield the batches of these samples, on the device."""
        if self.residency == "device":
            self._device_reader = self._device_reader or DeviceReader(self.dataset, self.device)
            yield from map(self._unpacked, map(self._device_reader.read, selections))
            return
        reader = self._host_reader = self._host_reader or self._open_reader()
        if self.device.type == "cuda":
            layout = self.dataset.layout
            shape = layout.view_shape if self.crop is None else (layout.spec.latent_channels, *self.crop)
            copies = PinnedCopies(reader, self.batches.batch_size, shape, self.device)
            with closing(prefetch_map(copies.stage, selections, self.prefetch)) as staged:
                yield from (self._unpacked(batch.receive()) for batch in staged)
            return
        with closing(prefetch_map(reader.read, selections, self.prefetch)) as batches:
            if self.device.type == "cpu":  # `to` would release the GIL to the prefetching thread, and wait for it
                yield from batches
                return
            for codes, labels in batches:
                yield LatentBatch(codes.to(self.device), labels.to(self.device))

    def _open_reader(self) -> Reader:
        in_memory, batch_size = self.residency == "ram", self.batches.batch_size
        if self.crop is not None and self._shapes is not None:
            return CropReader(self.dataset, self._shapes, batch_size, tuple(self.crop), in_memory=in_memory)
        return HostReader(self.dataset, batch_size, in_memory=in_memory, unpack=self.unpack)

    def _unpacked(self, batch: LatentBatch) -> LatentBatch:
        """Returns a batch on the device in the form that the loader gives."""
        if not self.unpack:
            return batch
        spec, grid = self.dataset.spec, self.dataset.layout.grid
        return LatentBatch(unpack_rows_tensor(batch.codes, spec.planes or (), grid), batch.labels)


def _require_views(dataset: LatentDataset, views: str | None) -> None:
    if views not in (None, "random"):
        raise unknown_name("choice of views", views, ["random"], "give random, or open the data set with view=N")
    if views is not None and dataset.num_views == 1:
        raise CallError(f"views {views!r}, but {dataset.folder} stores one view per sample; omit it")


def _require_crop(dataset: LatentDataset, crop: tuple[int, ...] | None) -> None:
    if dataset.layout.ragged != (crop is not None):
        raise CallError(
            f"samples of {dataset.folder} differ in size; give crop=(h, w) in latents, or (t,) for audio"
            if crop is None
            else f"crop {crop}, but all samples of {dataset.folder} have the same size; omit it"
        )
    if crop is None:
        return
    num_sizes = len(dataset.spec.axes) - 1
    if len(crop) != num_sizes or not all(type(side) is int and side >= 1 for side in crop):
        raise CallError(f"crop is {crop}; expected {num_sizes} sizes in latents, each at least 1")


def _require_class_numbers(dataset: LatentDataset) -> np.ndarray:
    """Return the class numbers of a data set, int64 (N,); raises `CallError` for labels of another kind."""
    if (kind := dataset.layout.labels.kind) != "class":
        raise CallError(
            f"balanced sampling needs one class a sample, but {dataset.folder} has labels of kind {kind!r}; sample "
            "uniformly" + (", with class weights in the loss" if kind == "multilabel" else "")
        )
    return dataset.labels
