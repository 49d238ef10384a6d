"""A decoding worker process, with its limits, and its handle in the parent process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_prep.decode.chunks import DecodedChunk, decode_chunk
from datasets_prep.decode.worker_pipe import receive_answer, send_answer
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import Stored

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder

_STATUS = Path("/proc/self/status")


class WorkerLost(Exception):
    """The worker died or exceeded its time limit; `reason` describes that for the sample that it was decoding."""

    def __init__(self, reason: str, *, killed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.killed = killed
        """Whether SIGKILL ended it. No decoder raises SIGKILL, so the system was short of memory or a user sent it."""


@dataclass(frozen=True)
class _Failure:
    """An exception that no sample caused."""

    error: Exception
    text: str


class WorkerProcess:
    """A process that runs `decode_chunk` on one chunk at a time. It is not thread-safe, except for `kill`."""

    def __init__(self, preparation: Preparation, encoder: FusedEncoder | None = None) -> None:
        # a forked process could hang, because torch may have started threads before
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_connection, preparation, encoder), daemon=True)
        self._process.start()
        child_connection.close()

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return self._process.pid

    def await_ready(self) -> None:
        """Wait until the worker has started; raises `WorkerLost` if it cannot start."""
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost("cannot start") from error

    def decode(self, samples: Sequence[Stored], time_limit_s: float) -> DecodedChunk:
        """Decode a chunk. Raises what decoding raised, or `WorkerLost`; then only `end` may be called."""
        try:
            self._connection.send(samples)
            if not self._connection.poll(time_limit_s):
                raise WorkerLost(f"took longer than {time_limit_s:g} s to read and decode")
            result = receive_answer(self._connection)
        except (EOFError, OSError) as error:
            self._process.join()
            killed = os.name == "posix" and self._process.exitcode == -signal.SIGKILL
            raise WorkerLost("the decoder crashed", killed=killed) from error
        if isinstance(result, _Failure):
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


def _serve(connection: Connection, preparation: Preparation, encoder: FusedEncoder | None) -> None:
    """Run the worker: receive chunks and send them decoded, until the parent process exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    if preparation.memory_bytes is not None:
        _limit_memory(preparation.memory_bytes)
    with suppress(EOFError, OSError):
        connection.send("ready")
        _silence_decoders()
        while True:
            send_answer(connection, _decode(connection.recv_bytes(), preparation, encoder))


def _decode(pickled: bytes, preparation: Preparation, encoder: FusedEncoder | None) -> DecodedChunk | _Failure:
    try:
        samples: Sequence[Stored] = pickle.loads(pickled)  # from the parent process, as `Connection.recv` does
        return decode_chunk(samples, preparation, encoder)
    except Exception as error:  # a bug or an error of the system, which the parent process raises
        return _Failure(_picklable(error), traceback.format_exc())


def _picklable(error: Exception) -> Exception:
    """Return the error, or its text if it cannot be pickled; the parent would take no result for a decoder's crash."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception's own methods may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _silence_decoders() -> None:
    """Discard what C libraries write to standard error about broken files; errors are sent through the pipe."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    os.close(null_device)


def _exit_with_parent(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _limit_memory(num_bytes: int) -> None:
    """Limit further memory allocation to `num_bytes`; does nothing on systems without /proc."""
    if not _STATUS.exists():
        return
    import resource

    # RLIMIT_DATA counts private writable memory, which includes the stacks of running threads.
    present = next(
        int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith("VmData")
    )
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    limit = present + num_bytes
    if hard_limit != resource.RLIM_INFINITY:
        limit = min(limit, hard_limit)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard_limit))
