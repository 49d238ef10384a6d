"""What codes may depend on of a device, and which devices are alike in it."""

from __future__ import annotations

import torch


def device_kind(device: torch.device) -> str:
    """What codes may depend on: the GPU's name, or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def alike_devices(device: torch.device) -> list[torch.device]:
    """The devices that `device` stands for: `cuda` without an index for all GPUs of its kind that torch sees.

    Those of another kind are left out, since a plan names one kind, and other ones may give other codes.
    """
    if device.type != "cuda" or device.index is not None:
        return [device]
    every = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [other for other in every if device_kind(other) == device_kind(device)]
