"""Chooses the engine that a configuration names."""

from __future__ import annotations

from importlib.util import find_spec

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.context import Engine
from datasets_prep.job.local_engine import LocalEngine
from walloc_cdl.errors import CallError


def choose_engine(config: PrepareConfig) -> Engine:
    """Return the engine of `config`; raises `CallError` if its package is not installed."""
    if config.engine == "local":
        return LocalEngine()
    if find_spec("ray") is None:
        raise CallError("engine 'ray' needs Ray, which is not installed; run `pip install 'walloc-cdl[ray]'`")
    from datasets_prep.job.ray_engine import RayEngine

    return RayEngine(address=config.address, cpus=config.cpus_per_task, gpus=config.gpus_per_task)
