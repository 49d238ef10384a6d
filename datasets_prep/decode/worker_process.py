"""One decoding process: what it does, its limits, and how its owner learns of its end."""

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
    """The worker died or was late; `reason` is what that says about the sample that it was decoding."""

    def __init__(self, reason: str, *, killed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.killed = killed
        """By SIGKILL, which no decoder raises: the machine was short of memory, or somebody did it."""


@dataclass(frozen=True)
class _Failure:
    """An exception that is no sample's fault."""

    error: Exception
    text: str


class WorkerProcess:
    """A process of its own for `decode_chunk`, one chunk at a time. Not to be shared between threads."""

    def __init__(self, preparation: Preparation, encoder: FusedEncoder | None = None) -> None:
        # fork could hang: torch has started threads by now
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, preparation, encoder), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """Of the process."""
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
        if isinstance(answer, _Failure):
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


def _serve(connection: Connection, preparation: Preparation, encoder: FusedEncoder | None) -> None:
    """The process: chunks in, decoded ones out, until the owner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's
    warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if preparation.memory_bytes is not None:
        _limit_memory(preparation.memory_bytes)
    with suppress(EOFError, OSError):
        connection.send("ready")
        _silence_decoders()
        while True:
            send_answer(connection, _answer(connection.recv_bytes(), preparation, encoder))


def _answer(pickled: bytes, preparation: Preparation, encoder: FusedEncoder | None) -> DecodedChunk | _Failure:
    try:
        samples: Sequence[Stored] = pickle.loads(pickled)  # of the owner; `Connection.recv` does so
        return decode_chunk(samples, preparation, encoder)
    except Exception as error:  # a fault of ours or of the machine: for the owner to raise
        return _Failure(_picklable(error), traceback.format_exc())


def _picklable(error: Exception) -> Exception:
    """The error, or its words where it cannot be sent: the owner would take silence for a crash of the decoder."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception's own methods may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _silence_decoders() -> None:
    """Send to nowhere what C libraries write to standard error about broken files; our errors go another way."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _limit_memory(num_bytes: int) -> None:
    """Let no more than so much be allocated from now on; where the system has no such limit, nothing happens."""
    if not _STATUS.exists():
        return
    import resource

    # RLIMIT_DATA counts private writable memory, of which a process has some for its threads' stacks.
    present = next(
        int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith("VmData")
    )
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = present + num_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
