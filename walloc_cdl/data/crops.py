"""Batches of crops of samples that differ in size."""

from __future__ import annotations

import numpy as np
import torch

from walloc_cdl.data.batch import LatentBatch
from walloc_cdl.data.buffers import BufferPool
from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.data.sampler import Selection, draw_below
from walloc_cdl.errors import CallError
from walloc_cdl.latents import SampleLayout, Shard
from walloc_cdl.latents.packing import to_codes

_LOWER_HALF = np.uint64(0xFFFFFFFF)


class CropReader:
    """Crops windows of one size, in whole latents, from samples that are at least as large; see `Reader`.

    The window is in the center, rounded up and to the left, or drawn from the selection's words. Everything is
    computed for the whole batch, except for one strided copy per sample: index arrays for every row of a window are
    not faster (119,000 windows of 12 × 32 × 32 per second on one thread, against 153,000 with the copies).
    """

    def __init__(
        self,
        dataset: LatentDataset,
        shapes: np.ndarray,
        batch_size: int,
        crop: tuple[int, ...],
        *,
        in_memory: bool,
    ) -> None:
        """Open the shards; `shapes` is the result of `covered_shapes`."""
        self.labels = dataset.labels
        self._crop = np.array(crop)
        self._rows = dataset.rows
        self._starts = dataset.stored.starts
        self._shapes = shapes
        self._layout = dataset.layout
        shards = [dataset.stored.shard(number) for number in range(dataset.stored.num_shards)]
        parts = [_loaded(shard, dataset.layout) if in_memory else (shard.codes, shard.offsets) for shard in shards]
        self._codes = [codes for codes, _ in parts]
        self._offsets = np.concatenate([np.empty(0, np.int64), *(offsets[:-1] for _, offsets in parts)])
        self._pool = BufferPool(batch_size, (dataset.spec.latent_channels, *crop))

    def read(self, selection: Selection) -> LatentBatch:
        """Returns a batch of crops of these samples, in host memory."""
        codes = self._pool.lend(len(selection.rows))
        self.fill(selection, codes)
        return LatentBatch(torch.from_numpy(codes), torch.from_numpy(self.labels[selection.rows]))

    def fill(self, selection: Selection, out: np.ndarray) -> None:
        """Copy the crops of these samples into `out`, uint8 (B, K, h, w) or (B, K, t)."""
        shapes = self._shapes[selection.rows]
        windows = self._windows(shapes[:, 1:], selection.words)
        rows = selection.rows if self._rows is None else self._rows[selection.rows]
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        starts = self._offsets[rows]
        stops = starts + self._layout.stored_bytes(shapes.astype(np.int64))
        for index, (number, start, stop) in enumerate(zip(numbers, starts, stops, strict=True)):
            window = tuple(slice(first, first + side) for first, side in zip(windows[index], self._crop, strict=True))
            stored = self._codes[number][start:stop]
            if self._layout.packed:  # a window's bits do not begin at bytes
                codes = to_codes(stored, self._layout.spec.planes, shapes[index, 1:].tolist())
            else:
                codes = stored.reshape(shapes[index])
            out[index] = codes[(slice(None), *window)]

    def _windows(self, sides: np.ndarray, words: np.ndarray | None) -> np.ndarray:
        """Returns the first position of each window, int64 (B, 2), or (B, 1) for audio."""
        margins = sides - self._crop
        if words is None:
            return margins // 2
        halves = [words >> np.uint64(32), words & _LOWER_HALF]
        return np.stack([draw_below(half, margin + 1) for half, margin in zip(halves, margins.T, strict=False)], axis=1)


def _loaded(shard: Shard, layout: SampleLayout) -> tuple[np.ndarray, np.ndarray]:
    """Returns copies of a shard's samples, as far as `layout` reads them, and of their offsets."""
    assert shard.offsets is not None
    assert shard.shapes is not None
    if layout.spec == shard.layout.spec:
        return shard.codes.copy(), shard.offsets
    sizes = layout.stored_bytes(shard.shapes.astype(np.int64))
    offsets = np.cumsum([0, *sizes], dtype=np.int64)
    fronts = (shard.codes[start : start + size] for start, size in zip(shard.offsets[:-1], sizes, strict=True))
    return np.concatenate([np.empty(0, np.uint8), *fronts]), offsets


def covered_shapes(dataset: LatentDataset, crop: tuple[int, ...]) -> np.ndarray:
    """Returns the shapes of the codes, as they are read, of all samples of ragged geometry, int32 (N, 3), or (N, 2).

    Opens every shard; those of a remote split are fetched first. Raises `CallError` if samples are smaller than the
    crop, naming the first.
    """
    dataset.fetch()
    parts = [dataset.stored.shard(number).shapes for number in range(dataset.stored.num_shards)]
    shapes = np.concatenate([np.empty((0, len(dataset.latent_shape)), np.int32), *parts])
    shapes = shapes if dataset.rows is None else shapes[dataset.rows]
    shapes[:, 0] = dataset.spec.latent_channels
    too_small = np.flatnonzero((shapes[:, 1:] < np.array(crop)).any(1))
    if too_small.size:
        row = int(too_small[0])
        size, crop_size = ("x".join(map(str, sides)) for sides in (shapes[row, 1:].tolist(), crop))
        raise CallError(
            f"{too_small.size} samples of split {dataset.split!r} are smaller than the crop of {crop_size} latents; "
            f"the first, {dataset.keys([row])[0]!r}, has {size}; choose a smaller crop or leave these samples out"
        )
    return shapes
