"""The Ray cluster that a job runs on: found, or started on this machine and ended with the job."""

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
"""Of a cluster of our own: tasks get a few kilobytes each, and the codec once."""

MIN_STORE_BYTES = 80 * 2**20
"""Less than 75 MiB Ray refuses."""

SHARED_MEMORY = "/dev/shm"

ANSWER_S = 10.0


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster: one that this process is connected to already stays so.

    None takes the cluster that Ray finds (`RAY_ADDRESS`, or one that runs on this machine), else starts one here, as
    `local` does. Raises `CallError` when there is none at `address`.
    """
    if ray.is_initialized():
        yield
        return
    with _own_signals():
        _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def num_slots(cpus: float, gpus: float) -> int:
    """How many tasks that need so many CPUs and GPUs the cluster's nodes can run at once.

    Raises `CallError` when no node can run one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(_fitting(resources, cpus, gpus) for resources in nodes)
    if not slots:
        most_cpus, most_gpus = (max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU"))
        raise CallError(
            f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs for a task; the most that a node has is "
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
            _require_answer(address or os.environ.get("RAY_ADDRESS"))
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


def _require_answer(address: str | None) -> None:
    """Raise `OSError` where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()


def _store_bytes() -> int:
    """Half of the shared memory that is free, within bounds; containers often have 64 MB of it in all."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # not on Linux
        return OBJECT_STORE_BYTES
    return max(MIN_STORE_BYTES, min(OBJECT_STORE_BYTES, free // 2))


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the process's way of ending on SIGTERM, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
