"""Batches of crops from samples that differ in size."""

from __future__ import annotations

import numpy as np
import torch

from walloc_cdl.data.buffers import BufferPool
from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.data.readers import Batch
from walloc_cdl.data.sampler import Selection, draw_below
from walloc_cdl.errors import CallError

_LOWER = np.uint64(0xFFFFFFFF)


class CropReader:
    """Cuts windows of one size, whole latents, out of the samples' codes, which must cover them; see `Reader`.

    The window is in the center, rounded up and to the left, or drawn by the selection's words. Everything is
    computed for the batch at once but the copy, which is one strided copy a sample: index arrays for every
    row of a window are no quicker (150,000 windows of 12 × 32 × 32 a second on one thread, either way).
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
        """`shapes` are the data set's `covered_shapes`."""
        self.labels = dataset.labels
        self._crop = np.array(crop)
        self._starts = dataset.shard_starts
        self._shapes = shapes
        shards = [dataset.shard(number) for number in range(len(self._starts) - 1)]
        self._offsets = np.concatenate([np.empty(0, np.int64), *(shard.offsets[:-1] for shard in shards)])
        self._codes = [shard.codes.copy() if in_memory else shard.codes for shard in shards]
        self._pool = BufferPool(batch_size, (dataset.spec.latent_channels, *crop))

    def read(self, selection: Selection) -> Batch:
        """The batch of these samples' crops, in the memory."""
        codes = self._pool.lend(len(selection.rows))
        self.fill(selection, codes)
        return torch.from_numpy(codes), torch.from_numpy(self.labels[selection.rows])

    def fill(self, selection: Selection, out: np.ndarray) -> None:
        """Copy the crops of these samples into `out`, uint8 (B, K, h, w) or (B, K, t)."""
        rows = selection.rows
        shapes = self._shapes[rows]
        windows = self._windows(shapes[:, 1:], selection.words)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        begins = self._offsets[rows]
        ends = begins + shapes.prod(1, dtype=np.int64)
        for place, (number, begin, end) in enumerate(zip(numbers, begins, ends, strict=True)):
            window = tuple(slice(first, first + side) for first, side in zip(windows[place], self._crop, strict=True))
            out[place] = self._codes[number][begin:end].reshape(shapes[place])[(slice(None), *window)]

    def _windows(self, sides: np.ndarray, words: np.ndarray | None) -> np.ndarray:
        """Where each window begins, int64 (B, 2), or (B, 1) of audio."""
        spare = sides - self._crop
        if words is None:
            return spare // 2
        halves = [words >> np.uint64(32), words & _LOWER]
        return np.stack([draw_below(half, part + 1) for half, part in zip(halves, spare.T, strict=False)], axis=1)


def covered_shapes(dataset: LatentDataset, crop: tuple[int, ...]) -> np.ndarray:
    """Shapes of the codes of all samples of a ragged split, int32 (N, 3), or (N, 2) of audio.

    Opens every shard; those of a remote split are all fetched first. Raises `CallError`, naming the first, if samples
    are smaller than the crop.
    """
    dataset.fetch()
    parts = [dataset.shard(number).shapes for number in range(len(dataset.shard_starts) - 1)]
    shapes = np.concatenate([np.empty((0, len(dataset.latent_shape)), np.int32), *parts])
    small = np.flatnonzero((shapes[:, 1:] < np.array(crop)).any(1))
    if small.size:
        row = int(small[0])
        have, wanted = ("x".join(map(str, sides)) for sides in (shapes[row, 1:].tolist(), crop))
        raise CallError(
            f"{small.size} samples of split {dataset.split!r} are smaller than the crop of {wanted} latents, the first "
            f"{dataset.keys([row])[0]!r} with {have}; choose a smaller crop or leave them out"
        )
    return shapes
