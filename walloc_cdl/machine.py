"""The resources of the machine that this process may use, and the processes that were launched together on it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

BUSY_SHARE = 0.25
"""Share of the CPUs' time from which on other programs count as a load."""

WATCHED_S = 0.2
"""Duration of the measurement of the load, 20 of Linux's usual clock ticks for each CPU."""

_WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_STATISTICS = Path("/proc/stat")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Set by `torchrun`, `accelerate launch` and MPI."""


def cpu_count() -> int:
    """Return the number of CPUs that this process may run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_without_spinning_if_busy() -> None:
    """Let OpenMP's threads sleep while they wait for one another, if other programs use the CPUs now.

    Spinning takes the time slices that the awaited threads need, but answers faster on CPUs that are free. OpenMP reads
    the setting when it is loaded, so this has no effect once torch is imported; a setting of the user's takes
    precedence.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _WAIT_SETTINGS):
        return
    if busy_share() > BUSY_SHARE:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def busy_share() -> float:
    """Return the share of the time of this process's CPUs that programs used in `WATCHED_S` seconds, from 0 to 1.

    It is 0 where the system does not say (other systems than Linux).
    """
    before = _cpu_ticks()
    time.sleep(WATCHED_S)
    after = _cpu_ticks()
    total = sum(after[cpu][0] - before[cpu][0] for cpu in after.keys() & before.keys())
    idle = sum(after[cpu][1] - before[cpu][1] for cpu in after.keys() & before.keys())
    return 1 - idle / total if total > 0 else 0.0


def _cpu_ticks() -> dict[int, tuple[int, int]]:
    """Return the clock ticks in all and those without work of each CPU that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return {}
    ticks = {}
    try:
        for line in _STATISTICS.read_text().splitlines():
            name, *values = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in os.sched_getaffinity(0):
                counts = [int(value) for value in values[:8]]  # the rest is contained in the first two
                ticks[int(name[3:])] = (sum(counts), counts[3] + counts[4])
    except (OSError, ValueError, IndexError):
        return {}
    return ticks


def launched_processes() -> tuple[int, int]:
    """Return the number of this process, from 0, and that of all; (0, 1) without a launcher."""
    return _first_number(_RANKS, 0), max(1, _first_number(_SIZES, 1))


def is_main_process() -> bool:
    """Return whether this process is the one that writes and reports."""
    return launched_processes()[0] == 0


def _first_number(names: tuple[str, ...], default: int) -> int:
    for name in names:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return default
