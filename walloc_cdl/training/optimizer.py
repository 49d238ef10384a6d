"""AdamW over a model's parameters, and its state as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from walloc_cdl.training.checkpoint import copy_into
from walloc_cdl.training.config import LoopConfig


def build_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """Build AdamW over all parameters, also over those that are frozen now.

    Biases, normalization weights and exempted weights have no decay. A model exempts weights, such as position
    embeddings, by a method `no_weight_decay` that returns their names, as timm's models do.
    """
    exempt = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    decayed, undecayed = [], []
    for name, parameter in model.named_parameters():
        (undecayed if parameter.ndim < 2 or name in exempt else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Returns the state of AdamW, named `PARAMETER/KEY`, of the parameters that have been updated."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor], *, origin: str
) -> None:
    """Inverse of `optimizer_tensors`; raises `DamagedError`, naming `origin`, for the state of another model.

    AdamW creates a parameter's state at its first update, so it is created here, in the memory format of the parameter,
    for the parameters that have been updated.
    """
    updated = {name.rpartition("/")[0] for name in tensors}
    targets: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name not in updated:
            continue
        state = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)}
        state["exp_avg_sq"] = torch.zeros_like(parameter)
        optimizer.state[parameter] = state
        targets |= {f"{name}/{key}": value for key, value in state.items()}
    copy_into(targets, tensors, origin=origin)
