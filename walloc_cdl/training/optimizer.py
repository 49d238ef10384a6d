"""AdamW over a model's trained weights, and its state as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from walloc_cdl.training.checkpoint import copy_into
from walloc_cdl.training.config import LoopConfig


def build_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW over the trained weights; norms, biases and what the model exempts are without decay.

    A model exempts weights, such as position embeddings, by a method `no_weight_decay` that returns their names,
    as timm's models do.
    """
    exempt = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    decayed, undecayed = [], []
    for name, parameter in trained_parameters(model).items():
        (undecayed if parameter.ndim < 2 or name in exempt else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that want a gradient, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state of AdamW as `PARAMETER/KEY` to tensor; empty before the first update."""
    return {
        f"{name}/{key}": value
        for name, parameter in trained_parameters(model).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor], *, origin: str
) -> None:
    """Inverse of `optimizer_tensors`; raises `DamagedError`, naming `origin`, for the state of another model.

    AdamW makes its state at the first update, so it is made by hand, in the parameters' memory format.
    """
    targets: dict[str, Tensor] = {}
    for name, parameter in trained_parameters(model).items():
        state = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)}
        state["exp_avg_sq"] = torch.zeros_like(parameter)
        optimizer.state[parameter] = state
        targets |= {f"{name}/{key}": value for key, value in state.items()}
    copy_into(targets, tensors, origin=origin)
