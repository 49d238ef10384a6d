"""Which device of torch to compute on: asked for by name, or chosen."""

from __future__ import annotations

import torch

from walloc_cdl.errors import CallError, first_line


def open_device(name: str | torch.device, *, allocate: bool = False) -> torch.device:
    """The device of this name, such as `cpu`, `cuda` or `cuda:1`.

    Nothing is initialized on a GPU, so that a process may still fork; with `allocate` an empty tensor is made on the
    device, which tells of one that torch knows but cannot use here. Raises `CallError` for a device that is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CallError(f"device {name!r} is no torch device; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CallError(f"device {str(name)!r} asked for, but torch finds no CUDA device here; use cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise CallError(f"device {str(name)!r} asked for, but torch finds {count} here, counted from 0; use cuda:0")
    if allocate:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise CallError(
                f"device {str(name)!r} cannot be used ({first_line(error)}); use cpu, cuda or cuda:N"
            ) from error
    return device


def choose_device(asked: str | torch.device | None = "auto", *, allocate: bool = False) -> torch.device:
    """The device asked for, see `open_device`; for `auto` or None the CUDA device if there is one, else the CPU."""
    if asked is None or asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return open_device(asked, allocate=allocate)
