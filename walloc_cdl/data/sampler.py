"""The sampler: one list of global batches for each epoch, which is the same for any number of ranks.

Random choices use words by position: each position of an epoch's order has a random word (raw PCG64, as for the
order itself), from which views and crops are drawn, so that they depend neither on ranks nor on prefetching or
resumption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from walloc_cdl.errors import CallError

_CROP_STREAM, _STEP_STREAM, _CLASS_STREAM, _SAMPLE_STREAM = 1, 2, 3, 4
"""Seeds that separate the words for views and crops, for training steps, and for drawing classes and their samples,
from those that shuffle."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The samples of a batch, in its order."""

    rows: np.ndarray
    """int64 (B,)."""
    words: np.ndarray | None = None
    """uint64 (B,): a random word for each sample if views or crops are drawn; None if they are fixed."""


def draw_below(words: np.ndarray, counts: int | np.ndarray) -> np.ndarray:
    """Returns a number from 0 to count - 1, int64, for each 32-bit word, floor(word × count / 2^32); counts ≤ 2^31."""
    return ((words * np.asarray(counts, np.uint64)) >> np.uint64(32)).astype(np.int64)


@dataclass(frozen=True)
class GlobalBatches:
    """The batches of every epoch, as a function of the seed and the epoch alone."""

    num_samples: int
    batch_size: int
    """Number of samples of a batch over all ranks."""
    shuffle: bool
    drop_last: bool
    """Whether to leave out a last batch that is not full."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise CallError(f"batch size is {self.batch_size}; it must be at least 1")
        if self.seed < 0:
            raise CallError(f"seed is {self.seed}; it must not be negative")
        if self.drop_last and 0 < self.num_samples < self.batch_size:
            raise CallError(
                f"batch size {self.batch_size} is more than the {self.num_samples} samples of the split, and "
                f"incomplete batches are dropped; use a batch size of at most {self.num_samples}"
            )

    def __len__(self) -> int:
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """Returns the samples of an epoch in their order, int64 (num_samples,).

        They are shuffled by sorting raw PCG64 words: NumPy guarantees the same words in all versions, but not the
        same results of `Generator.permutation`.
        """
        if not self.shuffle:
            return np.arange(self.num_samples)
        from walloc_cdl.kernels.cpu.argsort import argsort_words  # numba takes half a second to import

        return argsort_words(_raw_words(self.num_samples, self.seed, epoch))

    def words(self, epoch: int) -> np.ndarray:
        """Returns a random word for each position of an epoch's order, uint64 (num_samples,), for views and crops."""
        return _raw_words(self.num_samples, self.seed, epoch, _CROP_STREAM)

    def step_words(self, epoch: int) -> np.ndarray:
        """Returns words like `words`, for the random choices of a training step.

        They are independent of `words`: otherwise augmentations would be correlated with views and crops.
        """
        return _raw_words(self.num_samples, self.seed, epoch, _STEP_STREAM)

    def part(self, number: int, *, rank: int = 0, world_size: int = 1) -> slice:
        """Returns the positions, in an epoch's order, of one rank's part of global batch `number`.

        The concatenated parts of all ranks are the global batch. Their sizes differ by at most one. No part is empty,
        since ranks that train together would wait for one another, and the mean of no samples is NaN: where a last,
        incomplete batch has fewer samples than there are ranks, a rank without one gets the next rank's as well.
        """
        first = number * self.batch_size
        count = min(self.batch_size, self.num_samples - first)
        start, stop = (first + each * count // world_size for each in (rank, rank + 1))
        return slice(start, max(stop, start + 1))

    def selections(
        self, epoch: int, *, draw: bool, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> Sequence[Selection]:
        """Returns one rank's part of each global batch from number `start` on, in order.

        With `draw` each sample has a random word.
        """
        words = self.words(epoch) if draw else None
        return _Selections(self, self.order(epoch), words, rank=rank, world_size=world_size, start=start)


@dataclass(frozen=True, eq=False)
class BalancedBatches(GlobalBatches):
    """Batches of epochs of `num_samples` samples, in which the numbers of samples of any two classes differ by one.

    Within a class, every sample is drawn once before one is drawn again: the numbers of times of any two samples differ
    by one, too. Of a class that is drawn less often than it has samples, each epoch has others. Samples of unknown
    class are not drawn. All follows from the seed and the epoch alone.
    """

    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Class number of each sample, int64 (num_samples,), -1 where unknown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shuffle:
            raise CallError("balanced sampling draws samples, but shuffle is off; turn it on, or sample uniformly")
        if not (self.classes >= 0).any():
            raise CallError("balanced sampling needs class numbers, but no sample has one; sample uniformly")

    def order(self, epoch: int) -> np.ndarray:
        """Returns the samples of an epoch in their order, int64 (num_samples,)."""
        by_class = np.argsort(self.classes, kind="stable")[np.count_nonzero(self.classes < 0) :]
        _, counts = np.unique(self.classes[by_class], return_counts=True)
        ends = np.cumsum(counts)
        # Every class has the same number of samples, and as many as the rest needs, drawn anew each epoch, one more.
        quotas = np.full(len(counts), self.num_samples // len(counts))
        ranks = np.argsort(_raw_words(len(counts), self.seed, epoch, _CLASS_STREAM), kind="stable")
        quotas[ranks[: self.num_samples % len(counts)]] += 1
        rounds = -(-quotas // counts)
        words = _raw_words(int((rounds * counts).sum()), self.seed, epoch, _SAMPLE_STREAM)
        drawn, used = [], 0
        for start, count, quota, times in zip(ends - counts, counts, quotas, rounds, strict=True):
            part = words[used : used + times * count].reshape(times, count)
            used += times * count
            chosen = np.argsort(part, axis=1, kind="stable").reshape(-1)[:quota]
            drawn.append(by_class[start + chosen])
        return np.concatenate(drawn)[super().order(epoch)]


class _Selections(Sequence[Selection]):
    """Slices an epoch's order on access, since ten million samples make 39,000 batches."""

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
    """Return raw words of PCG64, uint64 (count,), which NumPy guarantees to be the same in all versions."""
    return np.random.PCG64(np.random.SeedSequence(seeds)).random_raw(count)
