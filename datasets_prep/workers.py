"""Decoding in worker processes: chunks of samples in, signals or the reason why not out, in order.

This module and what it imports is all that a worker loads: no torch, no `datasets`.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.signals.base import BadSignalError, KeyedSample, Preparation, Stored
from walloc_cdl.errors import JobError


@dataclass(frozen=True)
class DecodedChunk:
    """The usable samples of one task."""

    signals: np.ndarray | list[np.ndarray]
    """The preparation's dtype, (N, …), N the number of samples without a reason, with views (N, V, …); as a list
    where samples have sizes of their own.
    """
    reasons: dict[int, str]
    """Position in the task, and why that sample is not in `signals`."""
    hashes: list[str | None]
    """SHA-256 (hex) of each sample's stored bytes, None where they cannot be read; bad samples included."""
    num_bytes: list[int]
    """How many they are."""


def decode_chunk(samples: Sequence[Stored], preparation: Preparation) -> DecodedChunk:
    """Decode the samples of one task."""
    signals, reasons, hashes, sizes = [], {}, [], []
    for position, stored in enumerate(samples):
        try:
            content = stored.stored if isinstance(stored, KeyedSample) else stored
            data = content if isinstance(content, bytes) else Path(content).read_bytes()
            hashes.append(hashlib.sha256(data).hexdigest())
            sizes.append(len(data))
        except (OSError, TypeError):
            hashes.append(None)
            sizes.append(0)
        try:
            signals.append(preparation.load(stored))
        except BadSignalError as error:
            reasons[position] = str(error)
    if preparation.ragged:
        return DecodedChunk(signals, reasons, hashes, sizes)
    views = (len(preparation.view_names),) if preparation.view_names else ()
    none = np.empty((0, *views, *preparation.shape), preparation.dtype)
    return DecodedChunk(np.stack(signals) if signals else none, reasons, hashes, sizes)


def cpu_count() -> int:
    """CPUs this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class DecodePool:
    """Worker processes for `decode_chunk`; with 0 workers the calling process decodes.

    A context manager: leaving it, also by an exception or Ctrl-C, ends the workers.
    """

    def __init__(self, workers: int, preparation: Preparation) -> None:
        self.workers = workers
        self._preparation = preparation
        self._executor: ProcessPoolExecutor | None = None
        if workers:
            # fork could hang: torch has started threads by now
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def decode(self, tasks: Iterable[tuple[Any, Sequence[Stored]]]) -> Iterator[tuple[Any, DecodedChunk]]:
        """Decode (tag, samples) tasks; yields (tag, chunk) in the order of the tasks.

        Tasks are drawn while earlier ones are being decoded, at most two for each worker and two more
        in flight, so memory is bounded. Raises `JobError` when a worker dies.
        """
        if self._executor is None:
            for tag, samples in tasks:
                yield tag, decode_chunk(samples, self._preparation)
            return
        remaining = iter(tasks)
        in_flight: deque[tuple[Any, Future[DecodedChunk]]] = deque()
        try:
            while True:
                for tag, samples in itertools.islice(remaining, 2 * self.workers + 2 - len(in_flight)):
                    in_flight.append((tag, self._executor.submit(decode_chunk, samples, self._preparation)))
                if not in_flight:
                    return
                tag, future = in_flight.popleft()
                yield tag, future.result()
        except BrokenProcessPool as error:
            raise JobError(
                "a decoding worker ended unexpectedly; run the same again to go on, with fewer workers if memory is "
                "short (a script that calls prepare() needs `if __name__ == '__main__':` around it, or workers=0)"
            ) from error


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone: the pool's own queues would wait forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # on odd files PIL warns of what is refused, or put right, here
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
