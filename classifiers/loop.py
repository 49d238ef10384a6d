"""The training loop: one epoch after the other, and the state from which it goes on exactly as before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from classifiers.checkpoint import copy_into, load_weights
from classifiers.ema import WeightAverage, weights_of
from classifiers.model import LatentClassifier
from classifiers.precision import autocast
from classifiers.recipe import TrainConfig, build_optimizer
from walloc_cdl.data import LatentLoader
from walloc_cdl.errors import DamagedError, JobError
from walloc_cdl.latents import UNKNOWN_LABEL


@dataclass(frozen=True)
class TrainProgress:
    """Where training stands, after each update."""

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
    """Mean over the last whole epoch; None in the first."""
    images_per_s: float | None
    """In the last whole epoch; None in the first."""


Progress = Callable[[TrainProgress], None]


@dataclass
class History:
    """What is known of each finished epoch."""

    losses: list[float] = field(default_factory=list)
    images_per_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    """Of all finished epochs together."""


class TrainingLoop:
    """A model in training, with its optimizer, average and history."""

    def __init__(
        self,
        model: LatentClassifier,
        loader: LatentLoader,
        config: TrainConfig,
        *,
        device: torch.device,
        precision: str,
        progress: Progress | None = None,
    ) -> None:
        # On the CPU, too, convolutions are about a quarter quicker in this layout.
        self.model = model.to(device, memory_format=torch.channels_last)
        self.loader = loader
        self.config = config
        self.device = device
        self.precision = precision
        self.progress = progress
        self.optimizer = build_optimizer(self.model, config)
        self.average = WeightAverage(self.model, config.ema_decay)
        self.history = History()

    @property
    def epoch(self) -> int:
        """The epoch that comes next."""
        return len(self.history.losses)

    def run_epoch(self) -> None:
        """Train one epoch; all of its randomness follows from the seed and its number.

        Raises `JobError` when the loss is no longer a number.
        """
        epoch, steps = self.epoch, len(self.loader)
        seed_torch(self.config.seed, epoch)
        self.loader.set_epoch(epoch)
        self.model.train()
        total = torch.zeros((), device=self.device)
        num_images, start = 0, time.perf_counter()
        for number, (codes, labels) in enumerate(self.loader):
            step = epoch * steps + number
            total += self._update(codes, labels, step)
            num_images += len(labels)
            self._report(step + 1)
        mean = float(total) / steps  # waits for the device
        elapsed = time.perf_counter() - start
        if not math.isfinite(mean):
            raise JobError(f"the loss is {mean} in epoch {epoch + 1}; choose an lr below {self.config.lr:g}, or fp32")
        self.history.losses.append(mean)
        self.history.images_per_s.append(num_images / elapsed)
        self.history.elapsed_s += elapsed

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which `restore` goes on."""
        tensors = {f"model.{name}": value for name, value in weights_of(self.model).items()}
        tensors |= {f"average.{name}": value for name, value in self.average.weights.items()}
        tensors |= self._optimizer_tensors()
        return tensors, {
            "losses": self.history.losses,
            "images_per_s": self.history.images_per_s,
            "elapsed_s": self.history.elapsed_s,
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any], *, origin: str) -> None:
        """Inverse of `state`; raises `DamagedError`, naming `origin`, for a state of anything else."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        try:
            history = History(list(values["losses"]), list(values["images_per_s"]), float(values["elapsed_s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{origin}: not a training state ({error}); train again in another folder") from error
        load_weights(self.model, parts["model"], origin=origin)
        copy_into(self.average.weights, parts["average"], origin=origin)
        self._restore_optimizer(parts["optimizer"], origin=origin)
        self.history = history

    def _update(self, codes: Tensor, labels: Tensor, step: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate(step, len(self.loader))
        with autocast(self.precision, self.device):
            logits = self.model(codes)
        loss = cross_entropy(
            logits.float(),
            labels,
            ignore_index=UNKNOWN_LABEL,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )
        loss = loss / (labels != UNKNOWN_LABEL).sum().clamp_min(1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.average.update(self.model, step)
        return loss.detach()

    def _report(self, step: int) -> None:
        if self.progress is None:
            return
        history, batch_size = self.history, self.loader.batches.batch_size
        num_steps = self.config.epochs * len(self.loader)
        self.progress(
            TrainProgress(
                epoch=self.epoch,
                num_epochs=self.config.epochs,
                step=step,
                num_steps=num_steps,
                samples_done=step * batch_size,
                samples_total=num_steps * batch_size,
                loss=history.losses[-1] if history.losses else None,
                images_per_s=history.images_per_s[-1] if history.images_per_s else None,
            )
        )

    def _trained(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        state = self.optimizer.state
        return {
            f"optimizer.{name}/{key}": value
            for name, parameter in self._trained().items()
            for key, value in state.get(parameter, {}).items()
        }

    def _restore_optimizer(self, tensors: dict[str, Tensor], *, origin: str) -> None:
        """AdamW makes its state at the first update: make it by hand, in the parameters' memory format."""
        targets: dict[str, Tensor] = {}
        for name, parameter in self._trained().items():
            state = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)}
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            self.optimizer.state[parameter] = state
            targets |= {f"{name}/{key}": value for key, value in state.items()}
        copy_into(targets, tensors, origin=origin)


def seed_torch(seed: int, *parts: int) -> None:
    """Seed torch's generators from `seed` and further numbers, well mixed."""
    words = np.random.SeedSequence((seed, *parts)).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
