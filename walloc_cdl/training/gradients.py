"""The gradient of the whole batch from those of the processes, as one process would compute it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from walloc_cdl.training.processes import Processes


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Returns the buffers of batch normalizations that follow from the batches."""
    return [
        value
        for module in model.modules()
        if isinstance(module, _NormBase)
        for value in (module.running_mean, module.running_var)
        if value is not None
    ]


@torch.no_grad()
def combine(
    processes: Processes, parameters: Sequence[nn.Parameter], statistics: Sequence[Tensor], sums: Tensor
) -> Tensor:
    """Replace the gradients by the sums of those of all processes, and running statistics by their means.

    Returns the sums of `sums` (N,), figures of each process. Everything is one message, so that all processes have the
    same bits. A parameter without a gradient in any process has none afterwards, and is not updated.
    """
    if processes.world_size == 1:
        return sums
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    flags = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=sums.device)
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in trained]
    parts = [sums, flags, *gradients, *statistics]
    message = processes.sum(torch.cat([part.reshape(-1) for part in parts]))
    totals = message.split([part.numel() for part in parts])
    for number, (parameter, total) in enumerate(zip(trained, totals[2 : 2 + len(trained)], strict=True)):
        if parameter.grad is not None:
            parameter.grad.copy_(total.view(parameter.shape))
        elif totals[1][number] > 0:
            parameter.grad = total.view(parameter.shape).to(parameter.dtype)
    for value, total in zip(statistics, totals[2 + len(trained) :], strict=True):
        value.copy_(total.view(value.shape) / processes.world_size)
    return totals[0]
