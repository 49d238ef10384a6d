"""Transfers decoded chunks between processes: signals as raw bytes, everything else pickled.

Pickling copies the signals of a chunk five times, and the receiver allocates new memory for every 200 kB that the
system delivers. Writing from the array and reading into the array takes a tenth of the time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from datasets_prep.decode.chunks import DecodedChunk

_HAS_FILE_DESCRIPTORS = os.name == "posix"
"""Whether a connection is a file descriptor that `os` can read and write."""


@dataclass(frozen=True)
class _SignalHeader:
    """Stands for the signals, which follow as raw bytes."""

    shape: tuple[int, ...]
    dtype: str


def send_result(connection: Connection, result: Any) -> None:
    """Send a chunk, or any picklable object; raises `OSError` if the other end is closed."""
    if not (_HAS_FILE_DESCRIPTORS and isinstance(result, DecodedChunk) and isinstance(result.signals, np.ndarray)):
        connection.send(result)
        return
    signals = np.ascontiguousarray(result.signals)
    connection.send(replace(result, signals=_SignalHeader(signals.shape, signals.dtype.str)))  # type: ignore[arg-type]
    rest = _byte_view(signals)
    while rest:
        rest = rest[os.write(connection.fileno(), rest) :]


def receive_result(connection: Connection) -> Any:
    """Receive an object sent by `send_result`; raises `EOFError` or `OSError` if the sender exits before."""
    result = connection.recv()
    if not (isinstance(result, DecodedChunk) and isinstance(result.signals, _SignalHeader)):
        return result
    signals = np.empty(result.signals.shape, result.signals.dtype)
    rest = _byte_view(signals)
    while rest:
        num_bytes = os.readv(connection.fileno(), [rest])
        if not num_bytes:
            raise EOFError
        rest = rest[num_bytes:]
    return replace(result, signals=signals)


def _byte_view(signals: np.ndarray) -> memoryview:
    return memoryview(signals).cast("B") if signals.size else memoryview(b"")
