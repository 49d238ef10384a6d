"""Engines by name."""

from __future__ import annotations

from datasets_prep.engines.base import Engine
from datasets_prep.engines.local import LocalEngine
from walloc_cdl.errors import unknown_name

ENGINES = ("local",)


def choose_engine(name: str) -> Engine:
    """The engine of this name; `CallError` for an unknown one."""
    if name != "local":
        raise unknown_name("engine", name, ENGINES, f"choose one of {', '.join(ENGINES)}")
    return LocalEngine()
