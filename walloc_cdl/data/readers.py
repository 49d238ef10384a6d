"""Readers gather the batch of given samples, in host memory or on a device that holds the whole split."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

from walloc_cdl.data.batch import LatentBatch
from walloc_cdl.data.buffers import BufferPool
from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.data.gather import RowGatherer
from walloc_cdl.data.sampler import Selection, draw_below
from walloc_cdl.latents.packing import to_codes

LOADED_ROWS = 4096
"""Number of rows of a selection that are copied at once to where it is kept."""


class Reader(Protocol):
    """Reads batches into host memory; thread-safe."""

    labels: np.ndarray
    """Labels of all samples."""

    def read(self, selection: Selection) -> LatentBatch:
        """Returns the batch of these samples."""
        ...

    def fill(self, selection: Selection, out: np.ndarray) -> None:
        """Write the codes of these samples to `out`, uint8 (B, K, h, w), or their rows, (B, R)."""
        ...


class HostReader:
    """Gathers samples of one size from mapped shards, or from a copy of them in memory; see `Reader`.

    Packed samples are read as rows; with `unpack`, `read` gives their codes.
    """

    def __init__(self, dataset: LatentDataset, batch_size: int, *, in_memory: bool, unpack: bool = False) -> None:
        self.labels = dataset.labels
        self._dataset, self._unpack = dataset, unpack and dataset.layout.packed
        self._pool = BufferPool(batch_size, dataset.layout.view_shape)
        self._rows, self._gather = dataset.rows, dataset.stored.fill_codes
        if in_memory:
            codes = load_codes(dataset, torch.device("cpu")).numpy()
            self._rows, self._gather = None, RowGatherer(lambda _: codes, np.array([0, len(codes)])).fill

    def read(self, selection: Selection) -> LatentBatch:
        """Returns the batch of these samples, in host memory."""
        codes = self._pool.lend(len(selection.rows))
        self.fill(selection, codes)
        if self._unpack:
            codes = to_codes(codes, self._dataset.spec.planes, self._dataset.layout.grid)
        return LatentBatch(torch.from_numpy(codes), torch.from_numpy(self.labels[selection.rows]))

    def fill(self, selection: Selection, out: np.ndarray) -> None:
        """Gather the codes of these samples into `out`, uint8 (B, K, h, w), or their rows, (B, R)."""
        self._gather(stored_rows(self._dataset, selection, self._rows), out)


class DeviceReader:
    """Keeps all samples on the device, and gathers there."""

    def __init__(self, dataset: LatentDataset, device: torch.device) -> None:
        self._dataset = dataset
        self._codes = load_codes(dataset, device)
        self._labels = torch.from_numpy(dataset.labels).to(device)

    def read(self, selection: Selection) -> LatentBatch:
        """Returns the batch of these samples, on the device."""
        device = self._codes.device
        stored = torch.from_numpy(stored_rows(self._dataset, selection)).to(device)
        rows = torch.from_numpy(selection.rows).to(device)
        return LatentBatch(self._codes.index_select(0, stored), self._labels.index_select(0, rows))


def stored_rows(dataset: LatentDataset, selection: Selection, rows: np.ndarray | None = None) -> np.ndarray:
    """Returns the index of the stored view to read for each sample, row × views + view, int64 (B,).

    `rows` holds the row of each of the data set's samples, if it is not the number of the sample. If the selection has
    words, the views are drawn from them.
    """
    chosen = selection.rows if rows is None else rows[selection.rows]
    if selection.words is None:
        return chosen * dataset.num_views + dataset.view
    views = draw_below(selection.words >> np.uint64(32), dataset.num_views)
    return chosen * dataset.num_views + views


def load_codes(dataset: LatentDataset, device: torch.device) -> torch.Tensor:
    """Returns all codes of a data set as one tensor on `device`, uint8 (N × views, K, h, w), or their rows.

    Of rows, (N × views, R), it is the part that the data set reads. A whole split is copied shard by shard, a selection
    in parts.
    """
    stored, num_views = dataset.stored, dataset.num_views
    shape = dataset.layout.view_shape
    codes = torch.empty((len(dataset) * num_views, *shape), dtype=torch.uint8, device=device)
    if dataset.rows is None:
        for number, (start, stop) in enumerate(pairwise(stored.stored_starts.tolist())):
            codes[start:stop] = torch.from_numpy(stored.shard_codes(number)[:, : shape[0]])
        return codes
    rows = (dataset.rows[:, None] * num_views + np.arange(num_views)).reshape(-1)
    for start in range(0, len(rows), LOADED_ROWS):
        part = np.empty((len(rows[start : start + LOADED_ROWS]), *shape), np.uint8)
        stored.fill_codes(rows[start : start + LOADED_ROWS], part)
        codes[start : start + len(part)] = torch.from_numpy(part)
    return codes
