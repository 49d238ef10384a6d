"""Which samples make up which batch: one list of global batches for each epoch, whatever the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class GlobalBatches:
    """The batches of every epoch, as a function of the seed and the epoch alone."""

    num_samples: int
    batch_size: int
    """Samples of a batch over all ranks."""
    shuffle: bool
    drop_last: bool
    """Leave out a last batch that is not full."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise CallError(f"batch size {self.batch_size}; it must be at least 1")
        if self.seed < 0:
            raise CallError(f"seed {self.seed}; it must not be negative")
        if self.drop_last and 0 < self.num_samples < self.batch_size:
            raise CallError(
                f"batch size {self.batch_size} is more than the {self.num_samples} samples of the split, and "
                f"incomplete batches are dropped; use a batch size of at most {self.num_samples}"
            )

    def __len__(self) -> int:
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch in the order they are drawn, int64 (num_samples,).

        Shuffled by sorting raw PCG64 words: NumPy keeps the words the same in all versions, which it
        does not promise for `Generator.permutation`.
        """
        if not self.shuffle:
            return np.arange(self.num_samples)
        words = np.random.PCG64(np.random.SeedSequence((self.seed, epoch))).random_raw(self.num_samples)
        return np.argsort(words, kind="stable")

    def rank_slices(self, epoch: int, *, rank: int = 0, world_size: int = 1, start: int = 0) -> list[np.ndarray]:
        """One rank's part of each global batch from number `start` on, in order.

        The slices of all ranks, one after the other, are the global batch; their sizes differ by one at
        most, so that a last, incomplete batch may leave a rank with none.
        """
        order = self.order(epoch)
        slices = []
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            batch = order[first : first + self.batch_size]
            slices.append(batch[rank * len(batch) // world_size : (rank + 1) * len(batch) // world_size])
        return slices
