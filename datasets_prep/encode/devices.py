"""Devices of torch by name, and what of them the codes may depend on."""

from __future__ import annotations

import torch

from walloc_cdl.errors import CallError


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; `CallError` for a device that this machine does not have."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise CallError(f"device {name!r} cannot be used ({cause}); choose auto, cpu or cuda") from error
    return device


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
