"""How many threads everybody gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from walloc_cdl.errors import CallError
from walloc_cdl.machine import cpu_count


def choose_threads(asked: int | None) -> int:
    """The number asked for, or one for each processor that this process may use."""
    if asked is not None and asked < 1:
        raise CallError(f"threads is {asked}; it must be at least 1")
    return asked or cpu_count()


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Let torch (and by it the compiled encoder) use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
