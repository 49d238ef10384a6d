"""Making a batch of given rows: in the memory, or on the device that holds the whole split."""

from __future__ import annotations

import numpy as np
import torch

from walloc_cdl.data.buffers import BufferPool
from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.data.gather import gather_rows

Batch = tuple[torch.Tensor, torch.Tensor]
"""Codes uint8 (B, K, h, w) and labels int64 (B,)."""


class HostReader:
    """Gathers rows from mapped shards, or from a copy of the split in memory; thread-safe."""

    def __init__(self, dataset: LatentDataset, batch_size: int, *, in_memory: bool) -> None:
        self.labels = dataset.labels
        self._dataset = dataset
        self._pool = BufferPool(batch_size, dataset.latent_shape)
        self._codes = load_codes(dataset, torch.device("cpu")).numpy() if in_memory else None

    def read(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, in the memory."""
        codes = self._pool.lend(len(rows))
        self.fill(rows, codes)
        return torch.from_numpy(codes), torch.from_numpy(self.labels[rows])

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Gather the codes of these rows into `out`, uint8 (B, K, h, w)."""
        scratch = self._pool.lend(len(rows))
        codes = self._codes
        if codes is None:
            self._dataset.gather_into(rows, out, scratch)
        else:
            gather_rows(lambda _: codes, np.array([0, len(codes)]), rows, out, scratch)


class DeviceReader:
    """Gathers rows on the device, where it keeps the whole split."""

    def __init__(self, dataset: LatentDataset, device: torch.device) -> None:
        self._codes = load_codes(dataset, device)
        self._labels = torch.from_numpy(dataset.labels).to(device)

    def read(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, on the device."""
        index = torch.from_numpy(rows).to(self._codes.device)
        return self._codes.index_select(0, index), self._labels.index_select(0, index)


def load_codes(dataset: LatentDataset, device: torch.device) -> torch.Tensor:
    """All codes of a split as one tensor on `device`, uint8 (N, K, h, w), copied shard by shard."""
    codes = torch.empty((len(dataset), *dataset.latent_shape), dtype=torch.uint8, device=device)
    starts = dataset.shard_starts
    for number in range(len(starts) - 1):
        codes[starts[number] : starts[number + 1]] = torch.from_numpy(dataset.shard_codes(number))
    return codes
