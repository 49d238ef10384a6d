"""The torch device to compute on: requested by name, or chosen automatically."""

from __future__ import annotations

import torch

from walloc_cdl.errors import CallError, first_line


def open_device(name: str | torch.device, *, allocate: bool = False) -> torch.device:
    """Return the device called `name`, such as `cpu`, `cuda` or `cuda:1`.

    A GPU is not initialized, so that the process may still fork. With `allocate`, an empty tensor is created on the
    device, which detects a device that torch knows but cannot use. Raises `CallError` for a device that is missing or
    unusable.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CallError(f"device {name!r} is not a torch device; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CallError(f"device {str(name)!r} was requested, but torch finds no CUDA device; use cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise CallError(f"device {str(name)!r} was requested, but torch finds {count}, counted from 0; use cuda:0")
    if allocate:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise CallError(
                f"device {str(name)!r} cannot be used ({first_line(error)}); use cpu, cuda or cuda:N"
            ) from error
    return device


def choose_device(name: str | torch.device | None = "auto", *, allocate: bool = False) -> torch.device:
    """Return the requested device, see `open_device`; for `auto` or None, CUDA if it is available, else the CPU."""
    if name is None or name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return open_device(name, allocate=allocate)
