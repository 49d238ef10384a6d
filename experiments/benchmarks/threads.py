"""The number of threads that all candidates of a benchmark use."""

from __future__ import annotations

from walloc_cdl.machine import cpu_count
from walloc_cdl.threads import require_threads


def choose_threads(requested: int | None) -> int:
    """Returns the requested number, or by default the number of processors that this process may use."""
    require_threads(requested)
    return requested or cpu_count()
