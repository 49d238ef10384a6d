"""timm's optimizers over a model's parameters, and their state as named tensors and plain values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from walloc_cdl.errors import CallError, first_line
from walloc_cdl.fields import damaged
from walloc_cdl.schema import require_type
from walloc_cdl.training.checkpoint import REMEDY, copy_into
from walloc_cdl.training.config import LoopConfig

_UNCHANGED = ("params", "lr")
"""Entries of a group that are set before every update."""


def build_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """Build the optimizer over all parameters, also over those that are frozen now.

    Biases, normalization weights and exempted weights have no decay. A model exempts weights, such as position
    embeddings, by a method `no_weight_decay` that returns their names, and divides its layers by `group_matcher`, as
    timm's models do. Raises `CallError` for an optimizer that timm does not have or that refuses its settings.
    """
    from timm.optim import create_optimizer_v2  # imports all of timm's models

    settings: dict[str, Any] = {}
    if config.opt_eps is not None:
        settings["eps"] = config.opt_eps
    if config.opt_betas is not None:
        settings["betas"] = config.opt_betas
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:  # timm leaves out what needs no gradient
        parameter.requires_grad_(True)
    try:
        return create_optimizer_v2(
            model,
            opt=config.opt,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            layer_decay=config.layer_decay,
            **settings,
        )
    except (ValueError, TypeError, AssertionError, ImportError) as error:
        raise CallError(
            f"opt {config.opt!r} cannot be used ({first_line(error)}); choose one of timm.optim.list_optimizers(), "
            "such as adamw, and settings that it has"
        ) from error
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _group_numbers(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Return the numbers of each group, some of which optimizers change, such as a count of updates."""
    return [
        {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in group.items()
            if name not in _UNCHANGED and (isinstance(value, Tensor) or _is_number(value))
        }
        for group in optimizer.param_groups
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors of the state, named `PARAMETER/KEY`, and its plain numbers.

    Parameters that have not been updated have none.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value
            elif _is_number(value):
                numbers[f"{name}/{key}"] = value
    updated = sorted({name for name, parameter in model.named_parameters() if parameter in optimizer.state})
    return tensors, {"numbers": numbers, "groups": _group_numbers(optimizer), "updated": updated}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor], values: Any, *, origin: str
) -> None:
    """Inverse of `optimizer_state`; raises `DamagedError`, naming `origin`, for the state of another model.

    Optimizers create a parameter's state at its first update. So they make one here, with gradients of zero, for the
    parameters that had been updated; the weights stay. This creates tensors of the right shapes, types and memory
    formats, into which the stored ones are copied.
    """
    where = f"{origin}, optimizer"
    values = require_type(dict[str, Any], values, where, remedy=REMEDY)
    updated = require_type(list[str], values.get("updated"), f"{where}, updated", remedy=REMEDY)
    numbers = require_type(dict[str, float], values.get("numbers"), f"{where}, numbers", remedy=REMEDY)
    groups = require_type(list[dict[str, float]], values.get("groups"), f"{where}, groups", remedy=REMEDY)
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in set(updated)}
    _update_with_zeros(optimizer, parameters)
    expected, found = optimizer_state(optimizer, model)
    copy_into(expected, tensors, origin=origin)
    if numbers.keys() != found["numbers"].keys() or list(map(set, groups)) != list(map(set, found["groups"])):
        raise damaged(where, [*numbers, *groups][:4], f"the state of {type(optimizer).__name__}", REMEDY)
    for name, value in numbers.items():
        parameter, _, key = name.rpartition("/")
        optimizer.state[parameters[parameter]][key] = value
    for group, stored in zip(optimizer.param_groups, groups, strict=True):
        for name, value in stored.items():
            if isinstance(group[name], Tensor):
                group[name].fill_(value)
            else:
                group[name] = value


@torch.no_grad()
def _update_with_zeros(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> None:
    """Let the optimizer create the state of the parameters, which keep their values."""
    values = [parameter.detach().clone() for parameter in parameters.values()]
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for parameter, value in zip(parameters.values(), values, strict=True):
        parameter.copy_(value)
