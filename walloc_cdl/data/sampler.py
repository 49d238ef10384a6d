"""Which samples make up which batch: one list of global batches for each epoch, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from walloc_cdl.errors import CallError

_DRAWS, _STEPS = 1, 2
"""Tell the words that draw views and crops, and those for training steps, from those that shuffle."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The samples of a batch, in its order."""

    rows: np.ndarray
    """int64 (B,)."""
    words: np.ndarray | None = None
    """uint64 (B,): a random word for each, where a view or a crop is drawn; None for the fixed choice."""


def draw_below(words: np.ndarray, counts: int | np.ndarray) -> np.ndarray:
    """A number from 0 to count - 1, int64, for each 32-bit word, by its upper part; counts are at most 2^31."""
    return ((words * np.asarray(counts, np.uint64)) >> np.uint64(32)).astype(np.int64)


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
        from walloc_cdl.kernels.cpu.argsort import argsort_words  # numba takes half a second to import

        return argsort_words(_raw_words(self.num_samples, self.seed, epoch))

    def words(self, epoch: int) -> np.ndarray:
        """For each position of an epoch's order a random word, uint64 (num_samples,), by seed, epoch and position."""
        return _raw_words(self.num_samples, self.seed, epoch, _DRAWS)

    def step_words(self, epoch: int) -> np.ndarray:
        """Others like `words`, for what a training step does at random with each sample.

        They are not the same, or an augmentation would go with the view or the crop that was drawn.
        """
        return _raw_words(self.num_samples, self.seed, epoch, _STEPS)

    def part(self, number: int, *, rank: int = 0, world_size: int = 1) -> slice:
        """The positions in an epoch's order of one rank's part of global batch `number`.

        The parts of all ranks, one after the other, are the global batch; their sizes differ by one at most, so
        that a last, incomplete batch may leave a rank with none.
        """
        first = number * self.batch_size
        count = min(self.batch_size, self.num_samples - first)
        return slice(first + rank * count // world_size, first + (rank + 1) * count // world_size)

    def selections(
        self, epoch: int, *, draw: bool, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> Sequence[Selection]:
        """One rank's part of each global batch from number `start` on, in order.

        With `draw` each sample has a random word.
        """
        words = self.words(epoch) if draw else None
        return _Selections(self, self.order(epoch), words, rank=rank, world_size=world_size, start=start)


class _Selections(Sequence[Selection]):
    """Cut out of an epoch's order when asked for, since ten million samples make 39,000 batches."""

    def __init__(
        self,
        batches: GlobalBatches,
        order: np.ndarray,
        words: np.ndarray | None,
        *,
        rank: int,
        world_size: int,
        start: int,
    ) -> None:
        self._batches, self._order, self._words = batches, order, words
        self._rank, self._world_size, self._start = rank, world_size, start

    def __len__(self) -> int:
        return len(self._batches) - self._start

    def __getitem__(self, number: int) -> Selection:
        if not 0 <= number < len(self):
            raise IndexError(f"batch {number} of {len(self)}")
        part = self._batches.part(self._start + number, rank=self._rank, world_size=self._world_size)
        return Selection(self._order[part], None if self._words is None else self._words[part])


def _raw_words(count: int, *seeds: int) -> np.ndarray:
    return np.random.PCG64(np.random.SeedSequence(seeds)).random_raw(count)
