"""`LoopConfig`: the settings of a training loop, for any kind of model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from walloc_cdl.errors import CallError
from walloc_cdl.settings import setting, settings_of

PRECISIONS = ("auto", "bf16", "fp16", "fp32")

SCHEDULES = ("cosine", "tanh", "step", "multistep", "poly", "wsd", "constant")
"""Of timm's schedules those that follow from the number of the update alone, so that a resumed run goes on exactly."""

CLIP_MODES = ("norm", "value", "agc")
"""Of timm's `dispatch_clip_grad`: the norm of all gradients together, each value, or the norm relative to weights."""

UNFIT_OPTIMIZERS = {
    "adahessian": "it needs second derivatives",
    "kron": "it draws random numbers of its own, so that a resumed run would differ",
    "bnb": "it needs the package bitsandbytes",
    "fused": "it needs the package apex",
    "lookahead": "its slow weights are outside the optimizer's state, so that a resumed run would differ",
}
"""The beginnings of names of timm's optimizers that do not fit, and the reasons."""


def require_fraction(name: str, value: float) -> None:
    """Raise `CallError` unless 0 ≤ value < 1."""
    if not 0 <= value < 1:
        raise CallError(f"{name} is {value}; it must be at least 0 and below 1")


def require_above_zero(name: str, value: float) -> None:
    """Raise `CallError` unless 0 < value < infinity."""
    if not 0 < value < math.inf:
        raise CallError(f"{name} is {value}; it must be above 0")


def require_not_negative(name: str, value: float) -> None:
    """Raise `CallError` unless 0 ≤ value < infinity."""
    if not 0 <= value < math.inf:
        raise CallError(f"{name} is {value}; it must not be negative")


def _require_factor(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise CallError(f"{name} is {value}; it must be above 0 and at most 1")


def _require_milestones(name: str, value: tuple[float, ...]) -> None:
    if not value or sorted(set(value)) != list(value) or value[0] <= 0:
        raise CallError(f"{name} is {list(value)}; expected ascending numbers of epochs above 0, such as 10 20")


def _require_betas(name: str, value: tuple[float, ...]) -> None:
    if not value or not all(0 <= beta < 1 for beta in value):
        raise CallError(f"{name} is {list(value)}; expected numbers from 0 to below 1, such as 0.9 0.999")


def _require_optimizer(name: str, value: str) -> None:
    for beginning, reason in UNFIT_OPTIMIZERS.items():
        if value.startswith(beginning) or value.removeprefix("c") == beginning:
            raise CallError(f"{name} is {value!r}, but {reason}; choose another of timm's, such as adamw, sgd or lamb")


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the optimizer, the schedule, the averaging of weights and their selection, under timm's names.

    Each setting is defined by its field only: `cdl train` derives its options and a recipe's fields from them. Raises
    `CallError` for values out of range.
    """

    epochs: int = setting(15, "Passes over the training split.", minimum=1)
    batch_size: int = setting(64, "Samples of a batch, over all processes.", minimum=1)
    grad_accum_steps: int = setting(1, "Batches whose gradients are averaged for one update.", minimum=1)
    opt: str = setting("adamw", "One of timm's optimizers, such as adamw, sgd, lamb or lion.", check=_require_optimizer)
    lr: float = setting(1e-3, "Peak learning rate.", check=require_above_zero)
    weight_decay: float = setting(
        0.05, "Weight decay; none of biases, norms and position embeddings.", check=require_not_negative
    )
    momentum: float = setting(0.9, "Momentum of optimizers that have one.", check=require_fraction)
    opt_eps: float | None = setting(None, "Epsilon of the optimizer; default its own.", check=require_above_zero)
    opt_betas: tuple[float, ...] | None = setting(
        None, "Betas of the optimizer; default its own.", check=_require_betas
    )
    layer_decay: float | None = setting(
        None, "Factor of the learning rate from each layer to the one before it.", check=_require_factor
    )
    sched: str = setting("cosine", f"Schedule of the learning rate: {', '.join(SCHEDULES)}.", choices=SCHEDULES)
    warmup_epochs: float = setting(
        1.0, "Epochs over which the learning rate rises, in updates.", check=require_not_negative
    )
    """Number of epochs, possibly fractional, over which the learning rate rises linearly from `warmup_lr`."""
    warmup_lr: float = setting(1e-5, "Learning rate of the first update of the warmup.", check=require_not_negative)
    """At most `lr`, if that is smaller."""
    min_lr: float = setting(0.0, "Learning rate at the end.", check=require_not_negative)
    decay_epochs: float | None = setting(
        None, "Epochs from decay to decay (step), or of the decay at the end (wsd).", check=require_above_zero
    )
    """Below 1, a share of the epochs after the warmup (wsd)."""
    decay_milestones: tuple[float, ...] | None = setting(
        None, "Epochs after which the learning rate decays (multistep).", check=_require_milestones
    )
    decay_rate: float = setting(0.1, "Factor of a decay (step, multistep), power (poly).", check=require_above_zero)
    clip_grad: float | None = setting(
        1.0, "Largest gradient; 0 for no limit.", check=require_above_zero, zero_is_none=True
    )
    """None for no limit."""
    clip_mode: str = setting(
        "norm", "What clip-grad limits: norm (of all together), value, or agc.", choices=CLIP_MODES
    )
    model_ema_decay: float = setting(
        0.998, "Largest decay per update of the averaged weights, which are the result.", check=require_fraction
    )
    """With 0 the average equals the last weights."""
    precision: str = setting("auto", "auto, bf16, fp16 or fp32.", choices=PRECISIONS)
    """`auto` is bf16 on GPUs that compute it natively, and fp32 elsewhere."""
    torchcompile: str | None = setting(
        None, "Compile the timm model with this backend of torch.compile, such as inductor."
    )
    val_interval: int = setting(1, "Epochs from evaluation to evaluation; 0 for the end only.", minimum=0)
    eval_metric: str | None = setting(
        None, "Metric that decides which epoch is best; default accuracy, or what the kind of labels has."
    )
    patience: int | None = setting(None, "Stop after this many evaluations without a better metric.", minimum=1)
    keep: str = setting(
        "last", "Whose averaged weights the run saves: of the last epoch, or the best.", choices=("last", "best")
    )
    seed: int = setting(0, "Seed of every random choice.", minimum=0)
    """Determines the initial weights (of a model that is built for the run), the order of the samples and dropout."""

    def __post_init__(self) -> None:
        for name, each in settings_of(self).items():
            each.require_valid(name, getattr(self, name))
        if self.seed >= 2**64:
            raise CallError(f"seed is {self.seed}; it must be below 2^64")
        if self.sched == "step" and self.decay_epochs is None:
            raise CallError("the schedule step needs decay_epochs, the epochs from decay to decay; give it")
        if self.sched == "multistep" and self.decay_milestones is None:
            raise CallError("the schedule multistep needs decay_milestones, such as 10 20; give it")
        if self.val_interval == 0 and (self.patience is not None or self.keep == "best"):
            raise CallError(
                "val_interval is 0, so that no epoch is evaluated, and none is the best; choose 1, or omit patience "
                "and keep"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
