"""One update of the weights: gradients of one or several batches of all processes, clipped, and the average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from walloc_cdl.schema import Count, from_json
from walloc_cdl.training.checkpoint import REMEDY
from walloc_cdl.training.config import LoopConfig
from walloc_cdl.training.gradients import combine, running_statistics
from walloc_cdl.training.optimizer import build_optimizer
from walloc_cdl.training.precision import choose_precision
from walloc_cdl.training.processes import Processes
from walloc_cdl.training.schedule import build_schedule
from walloc_cdl.training.seeding import seed_torch


@dataclass(frozen=True)
class _ScalerState:
    """What of a scaler changes."""

    scale: float
    growth_tracker: Count


Batch = tuple[Tensor, Tensor, Tensor]

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Computes the loss of a batch, a scalar that can be differentiated, from (codes, targets, words).

The step runs the model, in a precision of its choice. Codes are uint8 (B, K, h, w) and targets (B, …), as
`LatentLoader` yields them. Words, uint64 (B,), are the only source of randomness that a step may use for single
samples. Torch's generators, which dropout uses, are seeded for each batch.
"""


class Updater:
    """The optimizer, its schedule, the scaler of fp16, and the moving average of the weights.

    The loss of an update is the mean over the samples of all its batches and of all processes. A step whose loss is not
    the mean over all samples, such as one that skips those without a label, has a method `terms` beside its call: it
    returns the sum of the terms and how much they count, of which the loss is the quotient, both float32 ().

    The average is timm's. After update number t, counted from 0, its decay is at most t / (t + 9), so that it covers at
    first about the last tenth of the updates. timm's own exponent of its warmup, 2/3, covers more of a short run: of 27
    updates the last 9 in place of the last 4, so that the initial weights are seen (tests/classifiers/test_sound.py:
    accuracy 0.54, and above 0.9 with the last tenth).
    """

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        config: LoopConfig,
        updates_per_epoch: int,
        processes: Processes,
        batch_size: int,
        device: torch.device,
    ) -> None:
        from timm.utils.model_ema import ModelEmaV3  # imports all of timm's models

        self._model = model
        self._step = step
        self._config = config
        self._processes = processes
        self._batch_size = batch_size
        self._parameters = list(model.parameters())
        self._statistics = running_statistics(model)
        self.optimizer = build_optimizer(model, config)
        self._schedule = build_schedule(self.optimizer, config, updates_per_epoch)
        self.average = ModelEmaV3(model, decay=config.model_ema_decay, use_warmup=True, warmup_gamma=9, warmup_power=1)
        is_scaled = choose_precision(config.precision, device) == "fp16"
        self._scaler = torch.amp.GradScaler(device.type, enabled=is_scaled)

    def update(self, batches: Sequence[tuple[int, Batch]], update: int, epoch: int) -> Tensor:
        """Returns the loss, float32 (), of update number `update`, from batches and their numbers in the epoch."""
        self._schedule.step_update(update)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batches, epoch)
        self._scaler.unscale_(self.optimizer)
        if self._config.clip_grad is not None:
            self._clip(self._config.clip_grad)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.average.update(self._model, update + 1)
        return loss

    def scaler_state(self) -> dict[str, Any] | None:
        """Returns the state of the scaler as plain values; None without one."""
        state = self._scaler.state_dict()
        return {"scale": state["scale"], "growth_tracker": state["_growth_tracker"]} if state else None

    def restore_scaler(self, values: Any, *, origin: str) -> None:
        """Inverse of `scaler_state`; raises `DamagedError`, naming `origin`."""
        if not self._scaler.is_enabled():
            return
        state = from_json(_ScalerState, values, f"{origin}, scaler", remedy=REMEDY)
        own = self._scaler.state_dict()
        self._scaler.load_state_dict({**own, "scale": state.scale, "_growth_tracker": state.growth_tracker})

    def _backward(self, batches: Sequence[tuple[int, Batch]], epoch: int) -> Tensor:
        """Compute the gradient of the mean loss, and return that loss."""
        is_whole = len(batches) == self._processes.world_size == 1
        total, weights = torch.zeros(()), torch.zeros(())
        for number, (codes, targets, words) in batches:
            seed_torch(self._config.seed, epoch, number, self._processes.rank)
            if is_whole:
                loss = self._step(codes, targets, words)
                self._scaler.scale(loss).backward()
                return loss.detach()
            # The number of samples keeps gradients in the range of one batch's, also in fp16.
            share = len(batches) * self._batch_size
            loss, weight = (value / share for value in self._terms(codes, targets, words))
            self._scaler.scale(loss).backward()
            total, weights = total.to(loss.device) + loss.detach(), weights.to(loss.device) + weight.detach()
        sums = combine(self._processes, self._parameters, self._statistics, torch.stack([total, weights]))
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(sums[1].clamp_min(1e-12))
        return sums[0] / sums[1].clamp_min(1e-12)

    def _terms(self, codes: Tensor, targets: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        terms = getattr(self._step, "terms", None)
        if terms is not None:
            return terms(codes, targets, words)
        loss = self._step(codes, targets, words)
        return loss * len(targets), torch.tensor(float(len(targets)), device=loss.device)

    def _clip(self, limit: float) -> None:
        from timm.utils.clip_grad import dispatch_clip_grad

        mode = self._config.clip_mode
        # As timm's `model_parameters`: adaptive clipping leaves out the classifier.
        parameters = self._parameters[:-2] if mode == "agc" else self._parameters
        dispatch_clip_grad([each for each in parameters if each.grad is not None], limit, mode=mode)
