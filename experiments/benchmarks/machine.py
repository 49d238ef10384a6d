"""The environment of a measurement: the machine, the versions, the threads and the load."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from experiments.benchmarks.devices import CPU
from walloc_cdl.training import describe_environment, source_commit

COMPUTING = ("numpy", "numba", "pillow", "torchvision")
"""Packages other than torch whose versions affect the speed."""


def describe_machine(packages: tuple[str, ...] = (), device: torch.device = CPU) -> dict[str, Any]:
    """Returns processor, cores, memory, load before the measurement, commit and versions as plain values.

    The versions include those of `packages`. The GPU is included if the device is one.
    """
    environment = describe_environment(device, "fp32", ("timm",))
    excluded = ("precision", "device") if device.type == "cpu" else ("precision",)
    return {
        **{name: value for name, value in environment.items() if name not in excluded},
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": source_commit(),
        **{name: found for name in (*COMPUTING, *packages) if (found := installed_version(name))},
    }


def installed_version(package: str) -> str | None:
    """Returns the version of a distribution; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine_text(machine: dict[str, Any]) -> str:
    """Format a description as one line."""
    words = [f"{machine['cpu']}, {machine['cpu_count']} cores, {machine['threads']} threads"]
    if machine["memory_bytes"]:
        words.append(f"{machine['memory_bytes'] / 2**30:.0f} GiB")
    if machine["load_average"] is not None:
        words.append(f"load {machine['load_average']:g} before")
    formatted = {"cpu", "cpu_count", "threads", "memory_bytes", "load_average", "commit"}
    words += [f"{name} {value}" for name, value in machine.items() if name not in formatted]
    return ", ".join([*words, f"commit {(machine['commit'] or 'unknown')[:12]}"])
