"""Memory that a training step needs, counted from the tensors that it keeps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

STATES = 2
"""Tensors that AdamW keeps for each parameter, of its size."""


def training_memory_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Returns the bytes of the model, its gradients, an AdamW optimizer's state, and what a step saves to go backward.

    `loss` computes the scalar loss of one batch by `model`. Memory is counted once for tensors that share it. The
    count is the same on every device; buffers that operations need while they run come on top.
    """
    weights = [*model.parameters(), *model.buffers()]
    seen = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in weights}
    own = sum(seen.values())
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return own + (1 + STATES) * trained + sum(saved.values())
