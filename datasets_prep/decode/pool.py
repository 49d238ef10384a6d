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
import multiprocessing
import os
import queue
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from datasets_prep.decode.chunks import DecodedChunk, concatenate_chunks
from datasets_prep.decode.worker import Failure, decode_chunk, serve, undecodable
from datasets_prep.decode.worker_pipe import receive_answer
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
        self._supervisors = [_Supervisor(preparation, encoder, time_limit_s) for _ in range(workers)]
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
        """The process ids of the workers that run now."""
        return [
            supervisor.worker.pid for supervisor in self._supervisors if supervisor.worker and supervisor.worker.pid
        ]

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
        supervisor = self._idle.get()  # there are as many threads as supervisors
        try:
            return supervisor.decode(samples)
        finally:
            self._idle.put(supervisor)


class _Supervisor:
    """Keeps a worker process running, and accounts for the samples that it leaves undone."""

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
            return concatenate_chunks([self._decode_alone(stored) for stored in samples])

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


class WorkerLost(Exception):
    """The worker died or was late; `reason` is what that says about the sample that it was decoding."""

    def __init__(self, reason: str, *, killed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.killed = killed
        """By SIGKILL, which no decoder raises: the machine was short of memory, or somebody did it."""


class WorkerProcess:
    """A process of its own for `decode_chunk`, one chunk at a time. Not to be shared between threads."""

    def __init__(self, preparation: Preparation, encoder: FusedEncoder | None = None) -> None:
        # fork could hang: torch has started threads by now
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, preparation, encoder), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid

    def await_ready(self) -> None:
        """Return when it has started; raises `WorkerLost` when it could not."""
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost("cannot start") from error

    def decode(self, samples: Sequence[Stored], time_limit_s: float) -> DecodedChunk:
        """Decode there; raises what decoding raised, or `WorkerLost`, after which there is only `end`."""
        try:
            self._connection.send(samples)
            if not self._connection.poll(time_limit_s):
                raise WorkerLost(f"took longer than {time_limit_s:g} s to read and decode")
            answer = receive_answer(self._connection)
        except (EOFError, OSError) as error:
            self._process.join()
            killed = os.name == "posix" and self._process.exitcode == -signal.SIGKILL
            raise WorkerLost("the decoder crashed", killed=killed) from error
        if isinstance(answer, Failure):
            raise answer.error from RuntimeError(answer.text)
        return answer

    def kill(self) -> None:
        """Stop it, whatever it is doing; a `decode` that another thread waits for raises `WorkerLost`."""
        self._process.kill()

    def end(self) -> None:
        """Stop it and give its resources back."""
        self.kill()
        self._process.join()
        self._connection.close()
