"""Decoding in worker processes: chunks of samples in, signals, or codes, or the reason why not out, in order.

A worker's death loses nothing. Its chunk is decoded again, sample by sample, and the one that kills its worker
once more, or takes too long, is quarantined; so the ledger does not depend on the number of workers. Only
without workers a crash of a decoder is one of the job.

Not by the package pebble, whose pool ends tasks that take too long, too: its workers share one pipe and a lock on it.
Signals would go through it pickled (ten times as slow, see `worker_pipe`), and a worker that is killed while it holds
the lock takes the others with it.
"""

from __future__ import annotations

import itertools
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from datasets_prep.decode.chunks import DecodedChunk, decode_chunk, joined, undecodable
from datasets_prep.decode.worker_process import WorkerLost, WorkerProcess
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import Stored
from walloc_cdl.errors import JobError

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder

TIME_LIMIT_S = 120.0
"""For a chunk, and then for each sample of one that took longer: a thousand times what a photo takes."""


class DecodePool:
    """Worker processes for `decode_chunk`; with 0 workers the calling process decodes.

    What they decode they encode, too, if there is an `encoder`.

    A context manager: leaving it, also by an exception or Ctrl-C, ends the workers.
    """

    def __init__(
        self,
        workers: int,
        preparation: Preparation,
        encoder: FusedEncoder | None = None,
        *,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self.workers = workers
        self._preparation, self._encoder = preparation, encoder
        self._attendants = [_Attendant(preparation, encoder, time_limit_s) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Attendant] = queue.SimpleQueue()
        for attendant in self._attendants:
            self._idle.put(attendant)
        self._threads = ThreadPoolExecutor(workers) if workers else None

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for attendant in self._attendants:
                attendant.stop()
            self._threads.shutdown(wait=True)
            for attendant in self._attendants:
                attendant.end()

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that run now."""
        return [attendant.worker.pid for attendant in self._attendants if attendant.worker and attendant.worker.pid]

    def decode(self, tasks: Iterable[tuple[Any, Sequence[Stored]]]) -> Iterator[tuple[Any, DecodedChunk]]:
        """Decode (tag, samples) tasks; yields (tag, chunk) in the order of the tasks.

        Tasks are drawn while earlier ones are being decoded, at most two for each worker and two more
        in flight, so memory is bounded. Raises `JobError` when workers cannot start, or are killed.
        """
        if self._threads is None:
            for tag, samples in tasks:
                yield tag, decode_chunk(samples, self._preparation, self._encoder)
            return
        remaining = iter(tasks)
        in_flight: deque[tuple[Any, Future[DecodedChunk]]] = deque()
        while True:
            for tag, samples in itertools.islice(remaining, 2 * self.workers + 2 - len(in_flight)):
                in_flight.append((tag, self._threads.submit(self._decode, samples)))
            if not in_flight:
                return
            tag, future = in_flight.popleft()
            yield tag, future.result()

    def _decode(self, samples: Sequence[Stored]) -> DecodedChunk:
        attendant = self._idle.get()  # there are as many threads as attendants
        try:
            return attendant.decode(samples)
        finally:
            self._idle.put(attendant)


class _Attendant:
    """Sees to it that there is a worker process, and to what it leaves undone."""

    def __init__(self, preparation: Preparation, encoder: FusedEncoder | None, time_limit_s: float) -> None:
        self.worker: WorkerProcess | None = WorkerProcess(preparation, encoder)
        self._preparation, self._encoder = preparation, encoder
        self._time_limit_s = time_limit_s
        self._started = self._stopped = False

    def decode(self, samples: Sequence[Stored]) -> DecodedChunk:
        """The decoded chunk, every sample of it accounted for."""
        try:
            return self._attempt(samples)
        except WorkerLost:
            return joined([self._decode_alone(stored) for stored in samples])

    def stop(self) -> None:
        """Kill the worker; a `decode` that another thread is in fails."""
        self._stopped = True
        if (worker := self.worker) is not None:
            worker.kill()

    def end(self) -> None:
        """Give the worker's resources back."""
        if self.worker is not None:
            self.worker.end()
            self.worker, self._started = None, False

    def _decode_alone(self, stored: Stored) -> DecodedChunk:
        try:
            return self._attempt([stored])
        except WorkerLost as lost:
            if lost.killed:
                raise JobError(
                    "a decoding worker was killed twice; run the same again to go on, with fewer workers if memory "
                    "is short"
                ) from lost
            return undecodable(stored, lost.reason, self._preparation, self._encoder)

    def _attempt(self, samples: Sequence[Stored]) -> DecodedChunk:
        if self._stopped:
            raise JobError("decoding was stopped")
        try:
            return self._ready_worker().decode(samples, self._time_limit_s)
        except WorkerLost:
            if not self._stopped:
                self.end()
            raise

    def _ready_worker(self) -> WorkerProcess:
        if self.worker is None:
            self.worker = WorkerProcess(self._preparation, self._encoder)
        if not self._started:
            try:
                self.worker.await_ready()
            except WorkerLost as lost:
                raise JobError(
                    "a decoding worker cannot start; a script that calls prepare() needs `if __name__ == '__main__':` "
                    "around it, or workers=0"
                ) from lost
            self._started = True
        return self.worker
