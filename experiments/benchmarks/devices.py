"""The device that encoding is measured on: the CPU, or a GPU, whose work has to be waited for."""

from __future__ import annotations

import torch
from torch import Tensor

from walloc_cdl.codec import WallocCodec
from walloc_cdl.devices import open_device
from walloc_cdl.errors import CallError

CPU = torch.device("cpu")


def open_measured(name: str | torch.device) -> torch.device:
    """The device of this name; `CallError` for one that is not here, or is neither a CPU nor a CUDA device."""
    device = open_device(name)
    if device.type not in ("cpu", "cuda"):
        raise CallError(f"device {str(name)!r}: speed is measured on cpu, cuda or cuda:N")
    return device


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_compiled(codec: WallocCodec, signal: Tensor) -> bool:
    """Whether `encode` of a linear encoder takes a compiled path for such signals, or the plain one."""
    with torch.no_grad():
        return codec._compiled.encode(codec.encoder[0], signal, codec._unpadded_codes) is not None
