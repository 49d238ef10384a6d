"""Decodes chunks of samples in worker processes, in order, to signals, codes, or reasons why samples are unusable.

A worker's death loses no samples. Its chunk is decoded again, sample by sample, and a sample that crashes its worker
again or exceeds the time limit is quarantined, so that the ledger does not depend on the number of workers. Without
workers, a decoder's crash ends the job. A death by SIGKILL is never attributed to a sample: no decoder raises it, but a
system short of memory does.

`ProcessPoolExecutor` is not used because, when a worker dies, it loses all tasks in flight and does not report which
sample caused that. Here one thread supervises each worker. The package pebble, whose pool also ends tasks that take too
long, is not used because its workers share one pipe and its lock: signals would be pickled (ten times slower, see
`worker_pipe`), and a worker that is killed while it holds the lock would block the others.

A worker takes most of a second to import what it needs, as long as a program takes to import torch. So a program that
will need a pool starts its workers before it imports torch (`workers_ahead`).
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from datasets_prep.decode.chunks import DecodedChunk, concatenate_chunks
from datasets_prep.decode.worker import Failure, decode_chunk, serve, undecodable
from datasets_prep.decode.worker_pipe import receive_result
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import ReadFailure, Stored
from walloc_cdl.errors import JobError

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder

TIME_LIMIT_S = 120.0
"""Limit for a chunk, and for each sample of a chunk that exceeded it: a thousand times the time for a photo."""


class DecodePool:
    """Worker processes for `decode_chunk`; with 0 workers the calling process decodes.

    The workers also encode what they decode if there is an `encoder`.

    The pool is a context manager that ends its workers on exit, also after an exception or Ctrl-C.
    """

    def __init__(
        self,
        workers: int,
        preparation: Preparation,
        encoder: DetachedEncoder | None = None,
        *,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self.workers = workers
        self._preparation, self._encoder = preparation, encoder
        started = _take_started(workers)
        self._supervisors = [_Supervisor(preparation, encoder, time_limit_s, worker) for worker in started]
        self._idle: queue.SimpleQueue[_Supervisor] = queue.SimpleQueue()
        for supervisor in self._supervisors:
            self._idle.put(supervisor)
        self._threads = ThreadPoolExecutor(workers) if workers else None

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for supervisor in self._supervisors:
                supervisor.stop()
            self._threads.shutdown(wait=True)
            for supervisor in self._supervisors:
                supervisor.end()

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [
            supervisor.worker.pid for supervisor in self._supervisors if supervisor.worker and supervisor.worker.pid
        ]

    def decode(self, tasks: Iterable[tuple[Any, Sequence[Stored]]]) -> Iterator[tuple[Any, DecodedChunk]]:
        """Decode tasks (tag, samples); yields (tag, chunk) in the order of the tasks.

        Tasks are drawn while earlier ones are decoded; at most two per worker and two more are in flight, so that
        memory is bounded. Raises `JobError` if workers cannot start or are killed.
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
        supervisor = self._idle.get()  # there are as many threads as supervisors
        try:
            return supervisor.decode(samples)
        finally:
            self._idle.put(supervisor)


class _Supervisor:
    """Keeps a worker process running, and decodes the samples of a lost worker again or quarantines them."""

    def __init__(
        self, preparation: Preparation, encoder: DetachedEncoder | None, time_limit_s: float, worker: WorkerProcess
    ) -> None:
        self.worker: WorkerProcess | None = worker
        self._preparation, self._encoder = preparation, encoder
        self._time_limit_s = time_limit_s
        self._started = self._stopped = False

    def decode(self, samples: Sequence[Stored]) -> DecodedChunk:
        """Decode a chunk; every sample has a signal or a reason in the result."""
        try:
            return self._attempt(samples)
        except WorkerLost:
            return concatenate_chunks([self._decode_alone(stored) for stored in samples])

    def stop(self) -> None:
        """Kill the worker; a `decode` that runs in another thread fails."""
        self._stopped = True
        if (worker := self.worker) is not None:
            worker.kill()

    def end(self) -> None:
        """Release the worker's resources."""
        if self.worker is not None:
            self.worker.end()
            self.worker, self._started = None, False

    def _decode_alone(self, stored: Stored) -> DecodedChunk:
        try:
            return self._attempt([stored])
        except WorkerLost as lost:
            if lost.killed:
                raise JobError(
                    "a decoding worker was killed twice; run the same command again to continue, with fewer workers if "
                    "memory is short"
                ) from lost
            failure = ReadFailure.FAILED if lost.bus_error else None
            return undecodable(stored, lost.reason, self._preparation, self._encoder, failure=failure)

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
            self.worker = WorkerProcess()
        if not self._started:
            try:
                self.worker.begin(self._preparation, self._encoder)
            except WorkerLost as lost:
                raise JobError(
                    "a decoding worker cannot start; a script that calls prepare() needs `if __name__ == '__main__':` "
                    "around it, or workers=0"
                ) from lost
            self._started = True
        return self.worker


class WorkerLost(Exception):
    """The worker died or exceeded its time limit; `reason` describes that for the sample that it was decoding."""

    def __init__(self, reason: str, exit_code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.killed = os.name == "posix" and exit_code == -signal.SIGKILL
        """Whether SIGKILL ended it. No decoder raises SIGKILL, so the system was short of memory or a user sent it."""
        self.bus_error = os.name == "posix" and exit_code == -signal.SIGBUS
        """Whether SIGBUS ended it, as when the system cannot read a part of a memory-mapped file."""


class WorkerProcess:
    """A process that runs `decode_chunk` on one chunk at a time. It is not thread-safe, except for `kill`.

    With `load_ahead`, it loads the code for images before it is told what to decode.
    """

    def __init__(self, *, load_ahead: bool = False) -> None:
        # a forked process could hang, because torch may have started threads before
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        self._process = context.Process(target=serve, args=(child_connection, load_ahead), daemon=True)
        with _interrupts_blocked():
            self._process.start()
        child_connection.close()

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return self._process.pid

    def begin(self, preparation: Preparation, encoder: DetachedEncoder | None) -> None:
        """Tell the worker how to decode, and wait until it has started; raises `WorkerLost` if it cannot start."""
        try:
            self._connection.send((preparation, encoder))
            self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost("cannot start") from error

    def decode(self, samples: Sequence[Stored], time_limit_s: float) -> DecodedChunk:
        """Decode a chunk. Raises what decoding raised, or `WorkerLost`; then only `end` may be called."""
        try:
            self._connection.send(samples)
            if not self._connection.poll(time_limit_s):
                raise WorkerLost(f"took longer than {time_limit_s:g} s to read and decode")
            result = receive_result(self._connection)
        except (EOFError, OSError) as error:
            self._process.join()
            raise WorkerLost("the decoder crashed", self._process.exitcode) from error
        if isinstance(result, Failure):
            raise result.error from RuntimeError(result.text)
        return result

    def kill(self) -> None:
        """Kill the worker; a `decode` that runs in another thread raises `WorkerLost`."""
        self._process.kill()

    def end(self) -> None:
        """Kill the worker and release its resources."""
        self.kill()
        self._process.join()
        self._connection.close()


_started_ahead: list[WorkerProcess] = []


@contextmanager
def workers_ahead(count: int) -> Iterator[None]:
    """Start this number of workers for the first pool of this process in the block, which uses them or ends them.

    Meanwhile they load the code for images. Those that no pool has taken end with the block.
    """
    _started_ahead.extend(WorkerProcess(load_ahead=True) for _ in range(count))
    try:
        yield
    finally:
        _take_started(0)


def _take_started(count: int) -> list[WorkerProcess]:
    """Return this number of workers, started ahead or now."""
    while len(_started_ahead) > count:
        _started_ahead.pop().end()
    workers, _started_ahead[:] = _started_ahead[:], []
    return workers + [WorkerProcess() for _ in range(count - len(workers))]


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, so that a process that it starts does not report one while it imports modules."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing starts it with the first process, and then unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
