"""The worker process, which reads, decodes and encodes chunks of samples.

Worker processes import this module and its imports only: neither torch nor `datasets`.
"""

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

import numpy as np

from datasets_prep.decode.chunks import DecodedChunk
from datasets_prep.decode.worker_pipe import send_result
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import (
    ArrayWindow,
    AudioSegment,
    BadSignalError,
    FileSlice,
    KeyedSample,
    ReadFailure,
    Stored,
    UnreadableError,
)
from walloc_cdl.addresses import is_url
from walloc_cdl.canonical import sha256_hex

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder

GIB = 2**30

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Failure:
    """An exception that no sample caused."""

    error: Exception
    text: str


def serve(connection: Connection, load_ahead: bool = False) -> None:
    """Run the worker: receive a preparation and an encoder, or None, then chunks, and send them decoded, until the
    parent process exits.

    With `load_ahead`, the code for images is loaded before the preparation arrives.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    if load_ahead:
        _load_image_code()
    with suppress(EOFError, OSError):
        preparation, encoder = connection.recv()
        load_code(preparation, encoder)
        if preparation.memory_bytes is not None:
            _limit_memory(preparation.memory_bytes)
        connection.send("ready")
        _silence_decoders()
        while True:
            send_result(connection, _result(connection.recv_bytes(), preparation, encoder))


def load_code(preparation: Preparation, encoder: DetachedEncoder | None) -> None:
    """Import all that decoding and encoding need: numba and its kernels take 0.7 s, and 6 s more if not cached."""
    preparation.load_code()
    if encoder is not None:
        encoder.load_code(preparation.dtype)


def _load_image_code() -> None:
    from datasets_prep.decode.images import ImagePreparation
    from walloc_cdl.kernels.cpu.detached import DetachedEncoder

    any_weight = np.zeros((1, 3 * 4), np.float32)
    load_code(ImagePreparation(3), DetachedEncoder(any_weight, any_weight[:, 0], levels=1, dimensions=2, bits=8))


def _result(pickled: bytes, preparation: Preparation, encoder: DetachedEncoder | None) -> DecodedChunk | Failure:
    try:
        samples: Sequence[Stored] = pickle.loads(pickled)  # from the parent process, as `Connection.recv` does
        return decode_chunk(samples, preparation, encoder)
    except Exception as error:  # a bug or an error of the system, which the parent process raises
        return Failure(_picklable(error), traceback.format_exc())


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


def decode_chunk(
    samples: Sequence[Stored], preparation: Preparation, encoder: DetachedEncoder | None = None
) -> DecodedChunk:
    """Decode the samples of one task, and encode them if there is an encoder; each file is read once."""
    decoded = [_decode(stored, preparation) for stored in samples]
    signals = [sample.signal for sample in decoded if sample.signal is not None]
    return DecodedChunk(
        signals=_encoded(_stacked(signals, preparation), preparation, encoder),
        reasons={position: sample.reason for position, sample in enumerate(decoded) if sample.reason is not None},
        hashes=[sample.sha256 for sample in decoded],
        num_bytes=[sample.num_bytes for sample in decoded],
        failures={position: sample.failure for position, sample in enumerate(decoded) if sample.failure is not None},
    )


def undecodable(
    stored: Stored,
    reason: str,
    preparation: Preparation,
    encoder: DetachedEncoder | None = None,
    *,
    failure: ReadFailure | None = None,
) -> DecodedChunk:
    """Return the chunk of a sample that crashed its worker twice: its content is hashed, but not decoded.

    Content at a URL is not hashed: the worker may have been waiting for the URL's server, and no time limit applies
    here. `failure` is that of a worker that the system's failure to read ended.
    """
    sample = _Decoded(reason=reason, failure=failure)
    content = stored.stored if isinstance(stored, KeyedSample) else stored
    remote = isinstance(content, FileSlice) and is_url(content.path)
    if not remote and not isinstance(content, (ArrayWindow, AudioSegment)):
        try:
            sample.take_content(read_stored(content))
        except BadSignalError as error:
            sample.fail(error)
    signals = _encoded(_no_signals(preparation), preparation, encoder)
    failures = {} if sample.failure is None else {0: sample.failure}
    return DecodedChunk(signals, {0: sample.reason or reason}, [sample.sha256], [sample.num_bytes], failures)


@dataclass
class _Decoded:
    """A decoded sample: a signal, or the reason why there is none."""

    signal: np.ndarray | None = None
    reason: str | None = None
    failure: ReadFailure | None = None
    sha256: str | None = None
    num_bytes: int = 0

    def take_content(self, content: bytes | np.ndarray) -> None:
        view = memoryview(content).cast("B")
        self.sha256, self.num_bytes = sha256_hex(view), len(view)

    def fail(self, error: BadSignalError) -> None:
        self.reason = str(error)
        self.failure = error.failure if isinstance(error, UnreadableError) else None


def _decode(stored: Stored, preparation: Preparation) -> _Decoded:
    decoded = _Decoded()
    try:
        if isinstance(stored, (ArrayWindow, AudioSegment)):
            decoded.signal = preparation.load(stored)
            decoded.take_content(decoded.signal)
        elif isinstance(stored, KeyedSample):
            data = read_stored(stored.stored)
            decoded.take_content(data)
            decoded.signal = preparation.load(KeyedSample(stored.key, data))
        else:
            data = read_stored(stored)
            decoded.take_content(data)
            decoded.signal = preparation.load(data)
    except BadSignalError as error:
        decoded.fail(error)
    except MemoryError:
        if preparation.memory_bytes is None:
            raise
        decoded.reason = f"decoding it takes more than {preparation.memory_bytes // GIB} GiB of memory"
    return decoded


def _stacked(signals: list[np.ndarray], preparation: Preparation) -> np.ndarray | list[np.ndarray]:
    if preparation.ragged or not signals:
        return signals or _no_signals(preparation)
    return np.stack(signals)


def _encoded(
    signals: np.ndarray | list[np.ndarray], preparation: Preparation, encoder: DetachedEncoder | None
) -> np.ndarray | list[np.ndarray]:
    """Encode signals (N, C, …) to codes (N, K, …), or with views (N, V, C, …) to (N, V, K, …).

    Codes with bit planes become rows, (N, R) or (N, V, R), which are a fraction to send. Returns the signals if there
    is no encoder.
    """
    if encoder is None or not isinstance(signals, np.ndarray):
        return signals
    rank = len(preparation.shape)
    flat = signals.reshape(-1, *preparation.shape)
    codes = encoder.encode_rows(flat) if encoder.has_planes else encoder.encode(flat)
    return codes.reshape(*signals.shape[:-rank], *codes.shape[1:])


def _no_signals(preparation: Preparation) -> np.ndarray | list[np.ndarray]:
    if preparation.ragged:
        return []
    views = (len(preparation.view_names),) if preparation.view_names else ()
    return np.empty((0, *views, *preparation.shape), preparation.dtype)
