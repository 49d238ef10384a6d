"""The training loop, and its state after an epoch, from which training resumes bit-exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn

from walloc_cdl.errors import CallError, DamagedError, JobError
from walloc_cdl.schema import Check, from_json, require_type
from walloc_cdl.threads import MAX_THREADS, choose_threads, require_threads
from walloc_cdl.training.average import WeightAverage
from walloc_cdl.training.checkpoint import REMEDY, copy_into
from walloc_cdl.training.config import LoopConfig
from walloc_cdl.training.history import EpochFigures, History
from walloc_cdl.training.optimizer import build_optimizer, optimizer_tensors, restore_optimizer
from walloc_cdl.training.schedule import learning_rate
from walloc_cdl.training.seeding import seed_torch

Threads = Annotated[int, Check(f"an integer from 1 to {MAX_THREADS}", lambda value: 1 <= value <= MAX_THREADS)]

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Computes the loss of a batch, a scalar that can be differentiated, from (codes, targets, words).

The step runs the model, in a precision of its choice. Codes are uint8 (B, K, h, w) and targets (B, …), as
`LatentLoader` yields them. Words, uint64 (B,), are the only source of randomness that a step may use for single
samples. Torch's generators, which dropout uses, are seeded for each epoch.
"""


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


Progress = Callable[[TrainProgress], None]


class TrainingLoop:
    """A model in training, with its optimizer, average and history.

    The loop moves the model to the device. `weights_of` returns, by name, the tensors of the model that are averaged
    and saved. `threads` is the number of torch's threads, on which the last bits of the weights depend; by default that
    of the checkpoint, or the one that is fastest when training begins. Raises `CallError` for a number below 1.

    `before_epoch` is called with the number of each epoch, from 0, before its batches: it may change which parameters
    require a gradient. The optimizer has all parameters of the model, and leaves those as they are that have no
    gradient. `evaluate` is called after each epoch while the model has the averaged weights, and returns metrics by
    name, which `history` has then.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        loader: Loader,
        config: LoopConfig,
        *,
        device: torch.device,
        weights_of: Callable[[nn.Module], dict[str, Tensor]] = nn.Module.state_dict,
        threads: int | None = None,
        progress: Progress | None = None,
        before_epoch: Callable[[int], None] | None = None,
        evaluate: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        require_threads(threads)
        # Convolutions are about a quarter faster in this layout, on the CPU as well.
        self.model = model.to(device, memory_format=torch.channels_last)
        self.step = step
        self.loader = loader
        self.config = config
        self.device = device
        self.threads = threads
        self.progress = progress
        self._before_epoch = before_epoch
        self._evaluate = evaluate
        self.optimizer = build_optimizer(self.model, config)
        self._weights_of = weights_of
        self.average = WeightAverage(self.weights(), config.ema_decay)
        self.history = History()

    @property
    def epoch(self) -> int:
        """Number of the next epoch, counted from 0."""
        return len(self.history.epochs)

    def weights(self) -> dict[str, Tensor]:
        """Returns the model's weights and buffers that are averaged and saved, not copied."""
        return self._weights_of(self.model)

    def choose_threads(self) -> int:
        """Returns the number of torch's threads for this run, and chooses it if none was given or restored.

        On a GPU it is the number that is set. On a CPU the gradient of the first batch is computed with several numbers
        of threads, which leaves the model as it was.
        """
        if self.threads is None:
            if self.device.type == "cpu":
                self.threads = choose_threads(self._rehearsal(), self.config.epochs * len(self.loader))
            else:
                self.threads = torch.get_num_threads()
        return self.threads

    def run_epoch(self) -> None:
        """Train one epoch; its randomness follows from the seed and the number of the epoch alone.

        Raises `DivergedError` if the mean loss, or a weight after the last update, is not finite.
        """
        epoch, steps = self.epoch, len(self.loader)
        if self._before_epoch is not None:
            self._before_epoch(epoch)
        seed_torch(self.config.seed, epoch)
        self.loader.set_epoch(epoch)
        self.model.train()
        total = torch.zeros((), device=self.device)
        num_images, start = 0, time.perf_counter()
        for number, (codes, targets, words) in enumerate(self.loader.with_words()):
            update = epoch * steps + number
            total += self._update(codes, targets, words, update)
            num_images += len(targets)
            self._report(update + 1)
        mean = float(total) / steps  # waits for the device
        elapsed = time.perf_counter() - start
        if not math.isfinite(mean):
            raise DivergedError(f"the loss is {mean} in epoch {epoch + 1}; {self._calmer}")
        if not self._is_finite():
            raise DivergedError(f"weights are not finite after epoch {epoch + 1}; {self._calmer}")
        metrics = self._metrics_of_average()
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        self.history.epochs.append(EpochFigures(mean, lr, num_images / elapsed, metrics))
        self.history.elapsed_s += elapsed

    def _metrics_of_average(self) -> dict[str, float] | None:
        """Returns the metrics of the averaged weights; the model has its own again afterwards."""
        if self._evaluate is None:
            return None
        weights = {name: value.detach().clone() for name, value in self.weights().items()}
        self.use_average()
        try:
            return self._evaluate()
        finally:
            copy_into(self.weights(), weights, origin="the weights in training")
            self.model.train()

    @property
    def _calmer(self) -> str:
        return f"choose an lr below {self.config.lr:g}, or precision fp32"

    def _is_finite(self) -> bool:
        """Returns whether all parameters and their averages are finite; waits for the device once."""
        names = {name for name, _ in self.model.named_parameters()}
        tensors = [
            value for part in (self.weights(), self.average.weights) for name, value in part.items() if name in names
        ]
        return bool(torch.stack([value.isfinite().all() for value in tensors]).all()) if tensors else True

    def use_average(self) -> None:
        """Replace the weights of the model by the averaged ones."""
        copy_into(self.weights(), self.average.weights, origin="the average")

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns tensors and plain values from which `restore` resumes."""
        tensors = {f"model.{name}": value for name, value in self.weights().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.weights.items()}
        state = optimizer_tensors(self.optimizer, self.model)
        tensors |= {f"optimizer.{name}": value for name, value in state.items()}
        return tensors, {**asdict(self.history), "threads": self.threads}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any], *, origin: str) -> None:
        """Inverse of `state`; raises `DamagedError`, naming `origin`, for anything but a state of this loop.

        Raises `CallError` if the loop was given another number of threads.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        names = {field.name for field in fields(History)}
        stored = {name: value for name, value in values.items() if name in names}
        history = from_json(History, stored, f"{origin}, training state", remedy=REMEDY)
        if len(history.epochs) > self.config.epochs:
            raise DamagedError(
                f"{origin}: figures of {len(history.epochs)} epochs, expected at most {self.config.epochs}; {REMEDY}"
            )
        threads = require_type(Threads | None, values.get("threads", ""), f"{origin}, threads", remedy=REMEDY)
        if self.threads is not None and threads not in (None, self.threads):
            raise CallError(
                f"{origin} was trained with {threads} threads, but this call has {self.threads}, which gives other "
                "weights; omit the number of threads, or name another folder"
            )
        copy_into(self.weights(), parts["model"], origin=origin)
        copy_into(self.average.weights, parts["average"], origin=origin)
        restore_optimizer(self.optimizer, self.model, parts["optimizer"], origin=origin)
        self.history = history
        self.threads = threads if self.threads is None else self.threads

    def _rehearsal(self) -> Callable[[], None]:
        """Returns a function that computes the gradient of the first batch, and leaves the model as it was.

        The state of torch's generators need not be kept, since each epoch seeds them.
        """
        self.loader.set_epoch(self.epoch)
        batches = self.loader.with_words()
        batch = next(batches)
        del batches  # ends its prefetching
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        self.model.train()

        def rehearse() -> None:
            self.step(*batch).backward()
            self.optimizer.zero_grad(set_to_none=True)
            for name, value in self.model.named_buffers():
                value.data.copy_(buffers[name])

        return rehearse

    def _update(self, codes: Tensor, targets: Tensor, words: Tensor, update: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, update, len(self.loader))
        loss = self.step(codes, targets, words)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.average.update(self.weights(), update)
        return loss.detach()

    def _report(self, updates: int) -> None:
        if self.progress is None:
            return
        history, batch_size = self.history, self.loader.batch_size
        num_steps = self.config.epochs * len(self.loader)
        self.progress(
            TrainProgress(
                epoch=self.epoch,
                num_epochs=self.config.epochs,
                step=updates,
                num_steps=num_steps,
                samples_done=updates * batch_size,
                samples_total=num_steps * batch_size,
                loss=history.losses[-1] if history.losses else None,
                images_per_s=history.images_per_s[-1] if history.images_per_s else None,
                threads=torch.get_num_threads(),
            )
        )
