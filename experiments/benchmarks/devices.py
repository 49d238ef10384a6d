"""The device on which encoding is measured: the CPU, or a GPU, which must be synchronized."""

from __future__ import annotations

import torch
from torch import Tensor

from walloc_cdl.codec import WallocCodec
from walloc_cdl.devices import open_device
from walloc_cdl.errors import CallError

CPU = torch.device("cpu")


def open_benchmark_device(name: str | torch.device) -> torch.device:
    """Returns the device of this name; raises `CallError` for a device that is absent, or neither a CPU nor CUDA."""
    device = open_device(name)
    if device.type not in ("cpu", "cuda"):
        raise CallError(f"device {str(name)!r} cannot be benchmarked; use cpu, cuda or cuda:N")
    return device


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, so that the time can be taken."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_compiled(codec: WallocCodec, signal: Tensor) -> bool:
    """Returns whether `encode` uses compiled code for such signals, instead of plain torch."""
    with torch.no_grad():
        return codec._compiled.encode(codec._linear_encoder(), signal, codec._unpadded_codes) is not None
