"""Several devices of one kind in one encoder's place: a batch goes to the next free one, codes come back in order."""

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
"""Batches in flight for each device: one that it encodes, and one that waits for it."""

THREAD_NAME = "encode-on-device"


class DeviceEncoder(Protocol):
    """What encodes on one device; `datasets_prep.encode.encoder` has those for signals of one size and of any."""

    codec: Codec
    device: torch.device
    latent_shape: tuple[int | None, ...]
    num_views: int

    def batches(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """What is encoded at once, of chunks of prepared signals."""
        ...

    def encode_batch(self, batch: Any) -> Any:
        """The codes of a batch, a row for each signal."""
        ...

    def joined(self, codes: Iterator[Any]) -> Iterator[Any]:
        """The codes of all batches, a row for each sample."""
        ...


class SeveralDevices:
    """Encoders of one codec, each on a device of its own, as one."""

    def __init__(self, encoders: Sequence[DeviceEncoder]) -> None:
        first = encoders[0]
        self.codec, self.latent_shape, self.num_views = first.codec, first.latent_shape, first.num_views
        self._encoders = encoders
        self._agree = False

    def encode(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """What one of the encoders would give. Chunks are drawn by the caller's thread, up to `BATCHES_EACH` batches
        for each device ahead of the codes, so memory is bounded.

        Raises what a device's `encode_batch` raises, and `JobError` where devices don't agree. No thread outlives
        the generator.
        """
        first = self._encoders[0]
        return first.joined(self._spread(first.batches(chunks)))

    def _spread(self, batches: Iterator[Any]) -> Iterator[Any]:
        if not self._agree and (batch := next(batches, None)) is not None:
            codes = self._agreed(batch)
            self._agree = True
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

    def _agreed(self, batch: Any) -> Any:
        """The codes of a batch, which each device has encoded.

        A kernel that is tried beside the plain path at its first call is so tried with the same signals everywhere
        and has one outcome, and two devices that only have a name in common are found out.
        """
        first, *others = self._encoders
        codes = first.encode_batch(batch)
        for other in others:
            if num := _num_different(codes, other.encode_batch(batch)):
                of_all = f"{num} of the first {len(codes)} signals"
                raise JobError(
                    f"{other.device} gives other codes than {first.device} for {of_all}; the bytes would depend on "
                    f"which one encodes, so choose one, as --device {first.device}"
                )
        return codes


class _DeviceThreads:
    """A thread for each encoder. A batch goes to one that waits, or the next that does."""

    def __init__(self, encoders: Sequence[DeviceEncoder]) -> None:
        free: queue.SimpleQueue[DeviceEncoder] = queue.SimpleQueue()
        for encoder in encoders:
            free.put(encoder)
        # A thread begins with the number that some thread has set last, which may be that of one that encodes, and
        # what it finds it puts back.
        num_threads = torch.get_num_threads()

        def begin() -> None:
            self._own.encoder = free.get_nowait()
            torch.set_num_threads(num_threads)

        self._own = threading.local()
        self._threads = ThreadPoolExecutor(len(encoders), THREAD_NAME, begin)

    def submit(self, batch: Any) -> Future[Any]:
        """Have it encoded."""
        return self._threads.submit(self._encode, batch)

    def end(self) -> None:
        """Return when no thread is left; batches that wait are not begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _encode(self, batch: Any) -> Any:
        return self._own.encoder.encode_batch(batch)


def _num_different(codes: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> int:
    return sum(not np.array_equal(mine, theirs) for mine, theirs in zip(codes, others, strict=True))
