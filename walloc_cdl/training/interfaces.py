"""What a training loop needs of its loader, and what it reports while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from walloc_cdl.errors import JobError


class Loader(Protocol):
    """The interface that the loop needs of its loader; `LatentLoader` implements it."""

    @property
    def batch_size(self) -> int:
        """Number of samples of a batch over all ranks."""
        ...

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch, counted from 0."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns the position, `epoch`, `batches` and `finished`, and the settings of the batches."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Choose the position of the next iteration."""
        ...

    def with_words(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Iterate over the epoch's batches (codes, targets, words), on the loop's device."""
        ...


class DivergedError(JobError):
    """Training has left the finite numbers; the same run would do so again."""


@dataclass(frozen=True)
class TrainProgress:
    """The progress of training after an update."""

    epoch: int
    """Counted from 0."""
    num_epochs: int
    step: int
    """Updates done so far, over all epochs."""
    num_steps: int
    samples_done: int
    """Samples seen so far, over all epochs."""
    samples_total: int
    loss: float | None
    """Mean over the last finished epoch; None in the first epoch."""
    images_per_s: float | None
    """Rate of the last finished epoch; None in the first epoch."""
    threads: int
    """Number of torch's threads."""
    lr: float
    """Largest learning rate of the update."""
    metrics: dict[str, float] | None
    """Metrics after the last epoch that was evaluated, by name."""
    running_loss: float | None
    """Mean over the current epoch's updates; None for most updates on a GPU, where reading it would wait."""


Progress = Callable[[TrainProgress], None]
