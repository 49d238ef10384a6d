"""Encodes on several devices of one kind: each batch goes to the next free device, and codes are returned in order.

There is one thread for each device: a thread that waits in CUDA releases the interpreter, and batches and codes stay in
one memory. All devices encode the job's first batch, one after the other, so that the trial of a kernel beside the
plain path uses the same signals on each and has one outcome, and GPUs that only share a name are detected. This is
tested with CPUs in place of GPUs and has not been measured on several GPUs.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch

from walloc_cdl.codec import Codec
from walloc_cdl.errors import JobError

BATCHES_EACH = 2
"""Batches in flight for each device: one is encoded, one waits."""

THREAD_NAME = "encode-on-device"


class DeviceEncoder(Protocol):
    """An encoder on one device; `datasets_prep.encode.encoder` implements it for fixed and ragged signals."""

    codec: Codec
    device: torch.device
    latent_shape: tuple[int | None, ...]
    num_views: int

    def batches(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of chunks of prepared signals."""
        ...

    def encode_batch(self, batch: Any) -> Any:
        """Return the codes of a batch, with a row for each signal."""
        ...

    def joined(self, codes: Iterator[Any]) -> Iterator[Any]:
        """Yield the codes of all batches, with a row for each sample."""
        ...


class SeveralDevices:
    """Combines encoders of one codec, each on its own device, into one encoder."""

    def __init__(self, encoders: Sequence[DeviceEncoder]) -> None:
        first = encoders[0]
        self.codec, self.latent_shape, self.num_views = first.codec, first.latent_shape, first.num_views
        self._encoders = encoders
        self._verified = False

    def encode(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """Yield the codes that one of the encoders would yield.

        The caller's thread draws chunks, up to `BATCHES_EACH` batches for each device ahead of the codes, so that
        memory is bounded. Raises what a device's `encode_batch` raises, and `JobError` if devices give different codes.
        No thread outlives the generator.
        """
        first = self._encoders[0]
        return first.joined(self._spread(first.batches(chunks)))

    def _spread(self, batches: Iterator[Any]) -> Iterator[Any]:
        if not self._verified and (batch := next(batches, None)) is not None:
            codes = self._encode_on_all(batch)
            self._verified = True
            yield codes
        in_flight: deque[Future[Any]] = deque()
        threads = _DeviceThreads(self._encoders)
        try:
            for batch in batches:
                in_flight.append(threads.submit(batch))
                while in_flight and (in_flight[0].done() or len(in_flight) == BATCHES_EACH * len(self._encoders)):
                    yield in_flight.popleft().result()
            while in_flight:
                yield in_flight.popleft().result()
        finally:
            threads.end()

    def _encode_on_all(self, batch: Any) -> Any:
        """Encode a batch on each device; raises `JobError` unless all give the same codes."""
        first, *others = self._encoders
        codes = first.encode_batch(batch)
        for other in others:
            if num := _num_different(codes, other.encode_batch(batch)):
                of_all = f"{num} of the first {len(codes)} signals"
                raise JobError(
                    f"{other.device} gives other codes than {first.device} for {of_all}, so that the bytes would "
                    f"depend on the device; choose one, such as --device {first.device}"
                )
        return codes


class _DeviceThreads:
    """Runs a thread for each encoder; a batch goes to the next idle one."""

    def __init__(self, encoders: Sequence[DeviceEncoder]) -> None:
        free: queue.SimpleQueue[DeviceEncoder] = queue.SimpleQueue()
        for encoder in encoders:
            free.put(encoder)
        # A new thread inherits the number of threads that any thread set last, possibly for encoding, and would
        # restore that number later.
        num_threads = torch.get_num_threads()

        def begin() -> None:
            self._own.encoder = free.get_nowait()
            torch.set_num_threads(num_threads)

        self._own = threading.local()
        self._threads = ThreadPoolExecutor(len(encoders), THREAD_NAME, begin)

    def submit(self, batch: Any) -> Future[Any]:
        """Schedule a batch for encoding; the future's result is its codes."""
        return self._threads.submit(self._encode, batch)

    def end(self) -> None:
        """Wait for all threads to end; batches that have not been started are cancelled."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _encode(self, batch: Any) -> Any:
        return self._own.encoder.encode_batch(batch)


def _num_different(codes: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> int:
    return sum(not np.array_equal(row, other) for row, other in zip(codes, others, strict=True))
