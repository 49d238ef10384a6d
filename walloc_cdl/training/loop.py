"""The training loop, and its state, from which training resumes bit-exactly, also within an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from itertools import islice
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.schema import Check, from_json, require_type
from walloc_cdl.threads import MAX_THREADS, choose_threads, require_threads
from walloc_cdl.training.checkpoint import REMEDY, copy_into
from walloc_cdl.training.config import LoopConfig
from walloc_cdl.training.history import EpochFigures, EpochPart, History
from walloc_cdl.training.interfaces import DivergedError, Loader, Progress, TrainProgress
from walloc_cdl.training.optimizer import optimizer_state, restore_optimizer
from walloc_cdl.training.processes import SINGLE, Processes
from walloc_cdl.training.seeding import seed_torch
from walloc_cdl.training.update import Step, Updater

Threads = Annotated[int, Check(f"an integer from 1 to {MAX_THREADS}", lambda value: 1 <= value <= MAX_THREADS)]

GPU_REPORTS = 20
"""Updates from one report of the running loss to the next on a GPU, which must finish its work for it."""


class TrainingLoop:
    """A model in training, with its optimizer, average and history.

    The loop moves the model to the device. `weights_of` returns, by name, the tensors of the model that are averaged
    and saved. `threads` is the number of torch's threads, on which the last bits of the weights depend; by default that
    of the checkpoint, or the one that is fastest when training begins. Raises `CallError` for a number below 1.

    `before_epoch` is called with the number of each epoch, from 0, before its batches: it may change which parameters
    require a gradient. The optimizer has all parameters of the model, and leaves those as they are that have no
    gradient. `evaluate` is called after each epoch that `config.val_interval` chooses while the model has the averaged
    weights, and returns metrics by name, which `history` has then; `main_metric` is the one that decides which epoch
    is best, unless `config.eval_metric` names another.

    With several `processes`, the loader has their rank and number, and every process calls the same methods; only the
    first one evaluates.
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
        main_metric: str = "accuracy",
        processes: Processes = SINGLE,
    ) -> None:
        require_threads(threads)
        # Convolutions are about a quarter faster in this layout, on the CPU as well.
        self.model = model.to(device, memory_format=torch.channels_last)
        processes.spread(self.model.state_dict().values())
        self.step = step
        self.loader = loader
        self.config = config
        self.device = device
        self.threads = threads
        self.progress = progress
        self.processes = processes
        self.history = History()
        self.metric = config.eval_metric or main_metric
        self._weights_of = weights_of
        self._before_epoch = before_epoch
        self._evaluate = evaluate
        self._updater = Updater(self.model, step, config, self.updates_per_epoch, processes, loader.batch_size, device)
        self._part = EpochPart.begin(device)
        self._best: dict[str, Tensor] | None = None

    @property
    def epoch(self) -> int:
        """Number of the next epoch, or of the one that has begun, counted from 0."""
        return len(self.history.epochs)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self._updater.optimizer

    @property
    def updates_per_epoch(self) -> int:
        """Number of updates of an epoch; the last one has fewer batches if they do not go up."""
        return math.ceil(len(self.loader) / self.config.grad_accum_steps)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are trained, or the metric has not risen for `config.patience` evaluations."""
        patience = self.config.patience
        stalled = patience is not None and self.history.has_stalled(self.metric, patience)
        return stalled or self.epoch >= self.config.epochs

    def weights(self) -> dict[str, Tensor]:
        """Returns the model's weights and buffers that are averaged and saved, not copied."""
        return self._weights_of(self.model)

    def average(self) -> dict[str, Tensor]:
        """Returns the averages of `weights`, not copied."""
        return self._weights_of(self._updater.average.module)

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
            self.threads = self.processes.shared(self.threads)
        return self.threads

    def run_epoch(self, after_update: Callable[[], None] | None = None) -> None:
        """Train one epoch, or the rest of one; its randomness follows from the seed and the number of the epoch alone.

        `after_update` is called after every update but the last, with the state complete. Raises `DivergedError` if
        the mean loss, or a weight after the last update, is not finite.
        """
        epoch = self.epoch
        if self._before_epoch is not None:
            self._before_epoch(epoch)
        self._choose_position(epoch)
        self.model.train()
        batches, part = iter(enumerate(self.loader.with_words(), self._part.batches)), self._part
        start, elapsed_before = time.perf_counter(), part.elapsed_s
        while group := list(islice(batches, self.config.grad_accum_steps)):
            update = epoch * self.updates_per_epoch + part.updates
            part.loss += self._updater.update(group, update, epoch)
            part.updates += 1
            part.batches += len(group)
            part.elapsed_s = elapsed_before + time.perf_counter() - start
            self._report(update + 1)
            if after_update is not None and part.updates < self.updates_per_epoch:
                after_update()
        mean = float(part.loss) / part.updates  # waits for the device
        part.elapsed_s = elapsed_before + time.perf_counter() - start
        self._finish_epoch(mean)

    def require_finite(self) -> None:
        """Raise `DivergedError` unless all parameters and their averages are finite; waits for the device once."""
        names = {name for name, _ in self.model.named_parameters()}
        tensors = [value for part in (self.weights(), self.average()) for name, value in part.items() if name in names]
        if tensors and not bool(torch.stack([value.isfinite().all() for value in tensors]).all()):
            raise DivergedError(f"weights are not finite in epoch {self.epoch + 1}; {self._calmer}")

    def use_result(self) -> None:
        """Replace the weights of the model by the averaged ones, those of the best epoch if it is to be kept."""
        copy_into(self.weights(), self._best or self.average(), origin="the average")

    @property
    def result_epoch(self) -> int:
        """Number of the epoch, from 1, after which the weights of `use_result` were averaged."""
        best = self.history.best_epoch(self.metric) if self.config.keep == "best" else None
        return self.epoch if best is None else best + 1

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns tensors and plain values from which `restore` resumes."""
        optimizer, values = optimizer_state(self.optimizer, self.model)
        parts = {"model": self.weights(), "average": self.average(), "best": self._best or {}, "optimizer": optimizer}
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        tensors["epoch.loss"] = self._part.loss
        return tensors, {
            **asdict(self.history),
            "part": self._part.to_json(),
            "optimizer": values,
            "scaler": self._updater.scaler_state(),
            "threads": self.threads,
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any], *, origin: str) -> None:
        """Inverse of `state`; raises `DamagedError`, naming `origin`, for anything but a state of this loop.

        Raises `CallError` if the loop was given another number of threads.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "optimizer": {}, "epoch": {}}
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
        part = EpochPart.from_json(
            values.get("part"), parts["epoch"], len(self.loader), self.config.grad_accum_steps, self.device, origin
        )
        copy_into(self.weights(), parts["model"], origin=origin)
        copy_into(self.average(), parts["average"], origin=origin)
        restore_optimizer(self.optimizer, self.model, parts["optimizer"], values.get("optimizer"), origin=origin)
        self._updater.restore_scaler(values.get("scaler"), origin=origin)
        self._best = None
        if parts["best"]:
            self._best = {name: torch.empty_like(value) for name, value in self.weights().items()}
            copy_into(self._best, parts["best"], origin=origin)
        self.history, self._part = history, part
        self.threads = threads if self.threads is None else self.threads

    @property
    def _calmer(self) -> str:
        return f"choose an lr below {self.config.lr:g}, or precision fp32"

    def _choose_position(self, epoch: int) -> None:
        """Let the loader begin with the first batch of the epoch that has not been trained."""
        if self._part.batches:
            position = {"epoch": epoch, "batches": self._part.batches, "finished": False}
            self.loader.load_state_dict({**self.loader.state_dict(), **position})
        else:
            self.loader.set_epoch(epoch)

    def _finish_epoch(self, mean: float) -> None:
        """Add an epoch of which all batches are trained to the history."""
        if not math.isfinite(mean):
            raise DivergedError(f"the loss is {mean} in epoch {self.epoch + 1}; {self._calmer}")
        self.require_finite()
        num_images = self._part.batches * self.loader.batch_size
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        elapsed = self._part.elapsed_s
        figures = EpochFigures(mean, lr, num_images / elapsed, self._metrics_of_average())
        self.history.epochs.append(figures)
        self.history.elapsed_s += elapsed
        self._part = EpochPart.begin(self.device)
        if self.config.keep == "best" and self.history.best_epoch(self.metric) == self.epoch - 1:
            self._best = {name: value.detach().clone() for name, value in self.average().items()}

    def _metrics_of_average(self) -> dict[str, float] | None:
        """Returns the metrics of the averaged weights, if they are due; the model has its own again afterwards."""
        interval = self.config.val_interval
        if self._evaluate is None or not interval or (self.epoch + 1) % interval:
            return None
        weights = {name: value.detach().clone() for name, value in self.weights().items()}
        copy_into(self.weights(), self.average(), origin="the average")
        try:
            return self.processes.on_main(self._evaluate)
        finally:
            copy_into(self.weights(), weights, origin="the weights in training")
            self.model.train()

    def _rehearsal(self) -> Callable[[], None]:
        """Returns a function that computes the gradient of the first batch, and leaves the model as it was.

        The state of torch's generators need not be kept, since each batch seeds them.
        """
        self.loader.set_epoch(self.epoch)
        batches = self.loader.with_words()
        batch = next(batches)
        del batches  # ends its prefetching
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        self.model.train()

        def rehearse() -> None:
            seed_torch(self.config.seed)
            self.step(*batch).backward()
            self.optimizer.zero_grad(set_to_none=True)
            for name, value in self.model.named_buffers():
                value.data.copy_(buffers[name])

        return rehearse

    def _report(self, updates: int) -> None:
        if self.progress is None:
            return
        history, part = self.history, self._part
        num_steps = self.config.epochs * self.updates_per_epoch
        samples = (self.epoch * len(self.loader) + part.batches) * self.loader.batch_size
        reads_loss = self.device.type != "cuda" or updates % GPU_REPORTS == 0
        self.progress(
            TrainProgress(
                epoch=self.epoch,
                num_epochs=self.config.epochs,
                step=updates,
                num_steps=num_steps,
                samples_done=samples,
                samples_total=self.config.epochs * len(self.loader) * self.loader.batch_size,
                loss=history.losses[-1] if history.losses else None,
                images_per_s=history.images_per_s[-1] if history.images_per_s else None,
                threads=torch.get_num_threads(),
                lr=max(group["lr"] for group in self.optimizer.param_groups),
                metrics=history.last_metrics,
                running_loss=float(part.loss) / part.updates if reads_loss else None,
            )
        )
