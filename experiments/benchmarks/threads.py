"""The number of threads that all candidates of a benchmark use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from walloc_cdl.errors import CallError
from walloc_cdl.machine import cpu_count


def choose_threads(requested: int | None) -> int:
    """Returns the requested number, or by default the number of processors that this process may use."""
    if requested is not None and requested < 1:
        raise CallError(f"threads is {requested}; it must be at least 1")
    return requested or cpu_count()


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Let torch, and with it the compiled encoder, use `num_threads` threads."""
    previous = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)
