"""Settings of torch that encoding needs, for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from walloc_cdl.machine import cpu_count


@contextmanager
def few_threads() -> Iterator[None]:
    """One torch thread for every 8 CPUs: most of the work is decoding.

    The decoding workers keep all CPUs busy, and torch's threads wait for one another at the end of
    every operation. With as many as there are CPUs, encoding is five times slower, not faster
    (measured on 2 CPUs with 2 workers: 50 images/s against 250).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, cpu_count() // 8))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_precision() -> Iterator[None]:
    """IEEE fp32 for convolutions and products, whatever the caller has set; no autocast.

    The precision is the process's own, so it is IEEE until the last of the threads that are in here at the same time
    has left; autocast is each thread's.
    """
    _ieee.enter()
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _ieee.leave()


class _IeeePrecision:
    """Set by the first one in; the last one out sets what the first one found."""

    def __init__(self) -> None:
        backends = torch.backends
        self._settings = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[Any] = []

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [setting.fp32_precision for setting in self._settings]
                for setting in self._settings:
                    setting.fp32_precision = "ieee"
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for setting, precision in zip(self._settings, self._before, strict=True):
                    setting.fp32_precision = precision


_ieee = _IeeePrecision()
