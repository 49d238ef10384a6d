"""The learning rate schedule: timm's, by the number of the update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from walloc_cdl.errors import CallError
from walloc_cdl.training.config import LoopConfig

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler


def build_schedule(optimizer: torch.optim.Optimizer, config: LoopConfig, updates_per_epoch: int) -> Scheduler:
    """Returns timm's schedule; its `step_update(n)` sets the rates of update number n, counted from 0.

    Warmup and decays are in whole updates, also where the settings are fractions of epochs. The schedule has no state
    of its own. Raises `CallError` if the decay is longer than the run.
    """
    from timm.scheduler import create_scheduler_v2  # imports all of timm's models

    total = config.epochs * updates_per_epoch
    warmup = min(round(config.warmup_epochs * updates_per_epoch), total)
    decay = config.decay_epochs
    if decay is not None and (config.sched != "wsd" or decay >= 1):
        decay = max(1, round(decay * updates_per_epoch))
    try:
        schedule, _ = create_scheduler_v2(
            optimizer,
            config.sched,
            num_epochs=max(1, total - warmup),
            decay_epochs=decay,
            # timm lets the update before a milestone decay.
            decay_milestones=[round(epochs * updates_per_epoch) + 1 for epochs in config.decay_milestones or (1,)],
            decay_rate=config.decay_rate,
            min_lr=config.min_lr,
            warmup_lr=min(config.warmup_lr, config.lr),
            warmup_epochs=warmup,
            warmup_prefix=True,
            step_on_epochs=False,
            updates_per_epoch=1,  # the unit of all times above is an update
        )
    except ValueError as error:
        raise CallError(f"the schedule {config.sched} does not fit {config.epochs} epochs: {error}") from error
    return schedule
