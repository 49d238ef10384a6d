"""`EpochSampler`: which epoch the next iteration of a `LatentLoader` reads, and from which of its batches on.

Many training loops never call `set_epoch`, so an iteration begins the next epoch if a batch of the current epoch was
received since it was chosen. This depends only on the calls that the consumer makes, so all ranks agree. Trainers that
know the number of the epoch (accelerate, Lightning, timm) call `loader.sampler.set_epoch`, which takes precedence.
"""

from __future__ import annotations

from dataclasses import dataclass

from walloc_cdl.data.sampler import GlobalBatches


@dataclass
class EpochPosition:
    """The progress within an epoch. Each iteration has its own, so that an abandoned one does not change the next."""

    epoch: int = 0
    """Counted from 0."""
    batches: int = 0
    """Number of the epoch's batches that the consumer has received."""
    begun: bool = False
    """Whether the consumer has received a batch since the epoch was chosen, or has reached the end of the epoch."""
    finished: bool = False
    """Whether the consumer has reached the end of the epoch; still false when it has received the last batch."""


class EpochSampler:
    """Chooses the epoch of each iteration; its length is the number of samples that the rank receives in an epoch.

    The first iteration reads epoch 0. One that begins after another has yielded a batch reads the next epoch, also if
    the other was broken off. `set_epoch` chooses the epoch of the next iteration.
    """

    def __init__(self, batches: GlobalBatches, *, rank: int = 0, world_size: int = 1) -> None:
        self._batches, self._rank, self._world_size = batches, rank, world_size
        self.position = EpochPosition()

    def __len__(self) -> int:
        num_batches = len(self._batches)
        if num_batches == 0:
            return 0
        ends = (
            self._batches.part(number, rank=self._rank, world_size=self._world_size) for number in (0, num_batches - 1)
        )
        first, last = (part.stop - part.start for part in ends)
        return first * (num_batches - 1) + last  # all batches but the last are full

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; a position that was restored is kept within its own epoch only."""
        position = self.position
        kept = position.batches if epoch == position.epoch and not position.begun else 0
        self.position = EpochPosition(epoch, kept)

    def restore(self, epoch: int, batches: int, *, finished: bool = False) -> None:
        """Make the next iteration continue after `batches` of an epoch, or begin the next epoch if it is finished."""
        self.position = EpochPosition(epoch, batches, finished=finished)

    def begin(self) -> EpochPosition:
        """Returns the position of an iteration that begins now, which the iteration keeps up to date."""
        if self.position.begun or self.position.finished:
            self.position = EpochPosition(self.position.epoch + 1)
        return self.position
