"""The processes that train one model together, by accelerate's `PartialState` and collective operations.

Not by `Accelerator.prepare`, which would put torch's DistributedDataParallel around the model, for four reasons: after
its first update it orders gradients anew, so that a resumed run adds them in another order; parameters that are frozen
for some epochs need another one; it takes the mean of the processes' losses, which is not that of the batch if their
slices differ in size or in unknown labels; and accelerate has one precision and device for the life of an interpreter,
in which `train` may be called for several.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError
from walloc_cdl.machine import launched_processes

T = TypeVar("T")

WAIT = timedelta(hours=6)
"""How long processes wait for one another; the others wait while the first evaluates."""

_UNFIT = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


@dataclass(frozen=True)
class Processes:
    """This process among those that train a model together; a single one without a launcher."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def open(cls, device: str | torch.device | None = None) -> Processes:
        """Join the processes that a launcher started, and choose the device, that of this process.

        Processes on the CPU communicate by gloo, those on GPUs by NCCL. Raises `CallError` if the launcher was
        told to divide models among devices, which this loop does not do, or if the processes were joined before for
        another kind of device.
        """
        if launched_processes()[1] == 1:
            return cls(0, 1, choose_device(device))
        from accelerate import PartialState

        for name, kind in _UNFIT.items():
            if os.environ.get(name, "").lower() == "true":
                raise CallError(f"launched with {kind}, but every process has a whole model here; launch without it")
        chosen = choose_device(device)
        state = PartialState(cpu=chosen.type == "cpu", timeout=WAIT)
        if state.device.type != chosen.type:
            raise CallError(
                f"the processes communicate on {state.device.type} since an earlier call, but this one is for "
                f"{chosen.type}; start the program again"
            )
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files, evaluates and reports."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum of the processes' tensors of one shape; bit by bit the same in all of them."""
        if self.world_size == 1:
            return tensor
        from accelerate.utils import reduce

        return reduce(tensor, "sum")

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Copy the first process's tensors into those of all processes."""
        if self.world_size == 1:
            return
        from accelerate.utils import broadcast

        for tensor in tensors:
            tensor.copy_(broadcast(tensor.contiguous()))

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world_size == 1:
            return
        from accelerate import PartialState

        PartialState().wait_for_everyone()

    def require_batch(self, batch_size: int) -> None:
        """Raise `CallError` for batches that do not have a sample for every process."""
        if batch_size < self.world_size:
            raise CallError(
                f"batches of {batch_size} samples, but {self.world_size} processes share each of them; choose a batch "
                f"size of at least {self.world_size}, or launch fewer processes"
            )

    def shared(self, value: T) -> T:
        """Returns the first process's value, which is pickled, in all processes."""
        if self.world_size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def on_main(self, work: Callable[[], T]) -> T:
        """Let the first process work while the others wait; returns its result, or raises its exception, in all."""
        if self.world_size == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        if self.is_main:
            try:
                result = work()
            except Exception as raised:
                error = raised
        result, error = self.shared((result, error))
        if error is not None:
            raise error
        return result


SINGLE = Processes(0, 1, torch.device("cpu"))
"""One process on the CPU."""
