"""Settings of torch for the duration of encoding."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from walloc_cdl.machine import cpu_count
from walloc_cdl.threads import torch_threads


@contextmanager
def few_threads() -> Iterator[None]:
    """Use one torch thread for every 8 CPUs while the block runs, since most of the work is decoding.

    The decoding workers keep all CPUs busy, and torch's threads wait for each other at the end of every operation. With
    as many threads as CPUs, encoding is five times slower (measured on 2 CPUs with 2 workers: 50 images/s against 250).
    """
    with torch_threads(max(1, cpu_count() // 8)):
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Use IEEE fp32 for convolutions and products, without autocast, while the block runs, for any caller's settings.

    The precision is a setting of the process, so that it is IEEE until the last of the concurrent threads has left the
    block; autocast is a setting of each thread.
    """
    _ieee.enter()
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _ieee.leave()


class _IeeePrecision:
    """The first thread that enters sets IEEE precision; the last one that leaves restores the previous precision."""

    def __init__(self) -> None:
        backends = torch.backends
        self._settings = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        self._lock = threading.Lock()
        self._num_threads = 0
        self._before: list[Any] = []

    def enter(self) -> None:
        with self._lock:
            if not self._num_threads:
                self._before = [setting.fp32_precision for setting in self._settings]
                for setting in self._settings:
                    setting.fp32_precision = "ieee"
            self._num_threads += 1

    def leave(self) -> None:
        with self._lock:
            self._num_threads -= 1
            if not self._num_threads:
                for setting, precision in zip(self._settings, self._before, strict=True):
                    setting.fp32_precision = precision


_ieee = _IeeePrecision()
