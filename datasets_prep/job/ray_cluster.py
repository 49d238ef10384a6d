"""Connects to a Ray cluster, or starts one on this machine for the duration of the job."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from walloc_cdl.errors import CallError
from walloc_cdl.machine import cpu_count

LOCAL = "local"

OBJECT_STORE_BYTES = 256 * 2**20
"""Size of the object store of a cluster that the job starts: tasks get a few kilobytes each, and the codec once."""

MIN_STORE_BYTES = 80 * 2**20
"""Minimum size of the object store: Ray refuses less than 75 MiB."""

SHARED_MEMORY = "/dev/shm"

CONNECT_TIMEOUT_S = 10.0


@contextmanager
def cluster_connection(address: str | None) -> Iterator[None]:
    """Connect to a cluster while the block runs; an existing connection of this process is used and stays open.

    None connects to the cluster that Ray finds (`RAY_ADDRESS`, or one that runs on this machine), else starts one here,
    as `local` does. Raises `CallError` if there is no cluster at `address`.
    """
    if ray.is_initialized():
        yield
        return
    with _keep_signal_handler():
        _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def num_slots(cpus: float, gpus: float) -> int:
    """Return the number of tasks, with these CPUs and GPUs each, that the cluster's nodes can run at once.

    Raises `CallError` if no node can run a task.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(_fitting(resources, cpus, gpus) for resources in nodes)
    if not slots:
        most_cpus, most_gpus = (max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU"))
        raise CallError(
            f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs for a task; nodes have at most "
            f"{most_cpus:g} CPUs and {most_gpus:g} GPUs: change --cpus-per-task and --gpus-per-task"
        )
    return slots


def _fitting(resources: dict[str, float], cpus: float, gpus: float) -> int:
    fitting = int(resources.get("CPU", 0) / cpus)
    return min(fitting, int(resources.get("GPU", 0) / gpus)) if gpus else fitting


def _connect(address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != LOCAL:
        try:
            _require_listener(address or os.environ.get("RAY_ADDRESS"))
            ray.init(address or "auto", **quiet)
            return
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            if address is not None or "RAY_ADDRESS" in os.environ:
                raise CallError(
                    f"no Ray cluster answers at {address or os.environ['RAY_ADDRESS']!r}; give HOST:PORT of its head "
                    f"node, or --address {LOCAL} to start one on this machine"
                ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(LOCAL, num_cpus=cpu_count(), object_store_memory=_store_bytes(), include_dashboard=False, **quiet)


def _require_listener(address: str | None) -> None:
    """Raise `OSError` if nothing listens at HOST:PORT; Ray itself would retry for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()


def _store_bytes() -> int:
    """Return half of the free shared memory, within bounds; containers often have only 64 MB of shared memory."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # not on Linux
        return OBJECT_STORE_BYTES
    return max(MIN_STORE_BYTES, min(OBJECT_STORE_BYTES, free // 2))


@contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Restore the process's handler of SIGTERM, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
