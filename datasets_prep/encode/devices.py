"""The kind of a device, on which codes may depend, and the devices of one kind."""

from __future__ import annotations

import torch


def device_kind(device: torch.device) -> str:
    """Return the properties of a device on which codes may depend: the GPU's name or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def same_kind_devices(device: torch.device) -> list[torch.device]:
    """Return the devices for which `device` stands: for `cuda` without an index, all GPUs of its kind that torch sees.

    GPUs of another kind are omitted, since a plan names one kind, and other kinds may give other codes.
    """
    if device.type != "cuda" or device.index is not None:
        return [device]
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [gpu for gpu in gpus if device_kind(gpu) == device_kind(device)]
