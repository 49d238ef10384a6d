"""Where a split's codes live while batches are drawn from them: the page cache, the memory, the device."""

from __future__ import annotations

import math

import torch

from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.errors import CallError, unknown_name

RESIDENCIES = ("auto", "mmap", "ram", "device")

AUTO_SHARE = 0.5
"""`auto` keeps a split on the device if it takes at most this share of the free memory there."""


def codes_bytes(dataset: LatentDataset) -> int:
    """Bytes of all codes of a split of fixed geometry, all views."""
    return len(dataset) * math.prod(dataset.layout.sample_shape)


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that is free now; 0 for other devices, which hold no splits."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def choose_residency(asked: str, dataset: LatentDataset, device: torch.device) -> str:
    """`mmap`, `ram` or `device` for what was asked.

    Raises `CallError` for an unknown residency, and for `device` where the split does not fit, or its samples
    differ in size.
    """
    if asked not in RESIDENCIES:
        raise unknown_name("residency", asked, RESIDENCIES, f"choose one of {', '.join(RESIDENCIES)}")
    if dataset.layout.ragged and asked == "device":
        raise CallError(f"samples of {dataset.folder} differ in size and are cropped in memory; use mmap or ram")
    if dataset.layout.ragged and asked == "auto":
        return "mmap"
    if asked in ("mmap", "ram"):
        return asked
    if device.type == "cpu":
        return "mmap" if asked == "auto" else "ram"
    needed, free = codes_bytes(dataset), free_bytes(device)
    if asked == "auto":
        return "device" if needed <= AUTO_SHARE * free else "mmap"
    if needed > free:
        raise CallError(
            f"split {dataset.split!r} needs {needed} bytes on {device}, where {free} are free; "
            "use residency mmap or ram"
        )
    return asked
