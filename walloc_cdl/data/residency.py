"""Residency: whether batches are read from the page cache, from a copy of the split in memory, or on the device."""

from __future__ import annotations

import math

import torch

from walloc_cdl.data.dataset import LatentDataset
from walloc_cdl.errors import CallError, unknown_name

RESIDENCIES = ("auto", "mmap", "ram", "device")

AUTO_MAX_FRACTION = 0.5
"""`auto` keeps a split on the device if it takes at most this fraction of the free memory there."""


def codes_bytes(dataset: LatentDataset) -> int:
    """Returns the bytes of a data set of fixed geometry that are read, over all views: of codes, or of their rows."""
    return len(dataset) * math.prod(dataset.layout.stored_shape)


def free_bytes(device: torch.device) -> int:
    """Returns the free memory of a CUDA device in bytes; 0 for other devices, which hold no splits."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def choose_residency(requested: str, dataset: LatentDataset, device: torch.device) -> str:
    """Returns `mmap`, `ram` or `device`.

    Raises `CallError` for an unknown residency, and for `device` if the split does not fit, or its samples
    differ in size.
    """
    if requested not in RESIDENCIES:
        raise unknown_name("residency", requested, RESIDENCIES, f"choose one of {', '.join(RESIDENCIES)}")
    if dataset.layout.ragged and requested == "device":
        raise CallError(f"samples of {dataset.folder} differ in size and are cropped in memory; use mmap or ram")
    if dataset.layout.ragged and requested == "auto":
        return "mmap"
    if requested in ("mmap", "ram"):
        return requested
    if device.type == "cpu":
        return "mmap" if requested == "auto" else "ram"
    needed, free = codes_bytes(dataset), free_bytes(device)
    if requested == "auto":
        return "device" if needed <= AUTO_MAX_FRACTION * free else "mmap"
    if needed > free:
        raise CallError(
            f"split {dataset.split!r} needs {needed} bytes on {device}, where {free} are free; "
            "use residency mmap or ram"
        )
    return requested
