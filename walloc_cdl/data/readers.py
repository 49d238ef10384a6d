"""Readers gather the batch of given samples, in host memory or on a device that holds the whole split."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from walloc_cdl.data.buffers import BufferPool
from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.data.gather import RowGatherer
from walloc_cdl.data.sampler import Selection, draw_below

Batch = tuple[torch.Tensor, torch.Tensor]
"""Codes uint8 (B, K, h, w) and labels (B, …), such as class numbers int64 (B,)."""


class Reader(Protocol):
    """Reads batches into host memory; thread-safe."""

    labels: np.ndarray
    """Labels of the whole split."""

    def read(self, selection: Selection) -> Batch:
        """Returns the batch of these samples."""
        ...

    def fill(self, selection: Selection, out: np.ndarray) -> None:
        """Write the codes of these samples to `out`, uint8 (B, K, h, w)."""
        ...


class HostReader:
    """Gathers samples of one size from mapped shards, or from a copy of the split in memory; see `Reader`."""

    def __init__(self, dataset: LatentDataset, batch_size: int, *, in_memory: bool) -> None:
        self.labels = dataset.labels
        self._dataset = dataset
        self._pool = BufferPool(batch_size, dataset.latent_shape)
        self._gather = dataset.gather_into
        if in_memory:
            codes = load_codes(dataset, torch.device("cpu")).numpy()
            self._gather = RowGatherer(lambda _: codes, np.array([0, len(codes)])).fill

    def read(self, selection: Selection) -> Batch:
        """Returns the batch of these samples, in host memory."""
        codes = self._pool.lend(len(selection.rows))
        self.fill(selection, codes)
        return torch.from_numpy(codes), torch.from_numpy(self.labels[selection.rows])

    def fill(self, selection: Selection, out: np.ndarray) -> None:
        """Gather the codes of these samples into `out`, uint8 (B, K, h, w)."""
        self._gather(stored_rows(self._dataset, selection), out)


class DeviceReader:
    """Keeps the whole split on the device, and gathers samples there."""

    def __init__(self, dataset: LatentDataset, device: torch.device) -> None:
        self._dataset = dataset
        self._codes = load_codes(dataset, device)
        self._labels = torch.from_numpy(dataset.labels).to(device)

    def read(self, selection: Selection) -> Batch:
        """Returns the batch of these samples, on the device."""
        device = self._codes.device
        stored = torch.from_numpy(stored_rows(self._dataset, selection)).to(device)
        rows = torch.from_numpy(selection.rows).to(device)
        return self._codes.index_select(0, stored), self._labels.index_select(0, rows)


def stored_rows(dataset: LatentDataset, selection: Selection) -> np.ndarray:
    """Returns the index of the stored view to read for each sample, sample × views + view, int64 (B,).

    If the selection has words, the views are drawn from them.
    """
    if selection.words is None:
        return selection.rows * dataset.num_views + dataset.view
    views = draw_below(selection.words >> np.uint64(32), dataset.num_views)
    return selection.rows * dataset.num_views + views


def load_codes(dataset: LatentDataset, device: torch.device) -> torch.Tensor:
    """Returns all codes of a split as one tensor on `device`, uint8 (N × views, K, h, w), copied shard by shard."""
    starts = dataset.stored_starts
    codes = torch.empty((int(starts[-1]), *dataset.latent_shape), dtype=torch.uint8, device=device)
    for number in range(len(starts) - 1):
        codes[starts[number] : starts[number + 1]] = torch.from_numpy(dataset.shard_codes(number))
    return codes
