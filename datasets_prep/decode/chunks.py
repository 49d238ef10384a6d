"""Decoding chunks of samples, and encoding them: signals or codes or the reason why not, and every content's hash.

Worker processes load this module and what it imports, and nothing else: no torch, no `datasets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datasets_prep.samples.content import read_stored
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import ArrayWindow, AudioSegment, BadSignalError, FileSlice, KeyedSample, Stored
from walloc_cdl.addresses import is_url
from walloc_cdl.canonical import sha256_hex

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder

GIB = 2**30


@dataclass(frozen=True)
class DecodedChunk:
    """The samples of one task, the usable ones decoded."""

    signals: np.ndarray | list[np.ndarray]
    """The preparation's dtype, (N, …), N the number of samples without a reason, with views (N, V, …); as a list
    where samples have sizes of their own. Where they have been encoded, their codes in place of them."""
    reasons: dict[int, str]
    """Position in the task, and why that sample is not in `signals`."""
    hashes: list[str | None]
    """For every sample the SHA-256 (hex) of its content, None where that could not be read.

    The content is the stored file, bad ones included. Of windows of an array and segments of a clip, which
    share a file, it is the prepared signal, and bad ones have none.
    """
    num_bytes: list[int]
    """For every sample the size of what was hashed; 0 where nothing was."""


def decode_chunk(
    samples: Sequence[Stored], preparation: Preparation, encoder: FusedEncoder | None = None
) -> DecodedChunk:
    """Decode the samples of one task, and encode them if there is an encoder; each file is read once."""
    decoded = [_decode(stored, preparation) for stored in samples]
    signals = [sample.signal for sample in decoded if sample.signal is not None]
    return DecodedChunk(
        signals=_encoded(_gathered(signals, preparation), preparation, encoder),
        reasons={position: sample.reason for position, sample in enumerate(decoded) if sample.reason is not None},
        hashes=[sample.sha256 for sample in decoded],
        num_bytes=[sample.num_bytes for sample in decoded],
    )


def undecodable(
    stored: Stored, reason: str, preparation: Preparation, encoder: FusedEncoder | None = None
) -> DecodedChunk:
    """What stands for a sample that no worker survived: its content is hashed, and not decoded.

    That of a URL is not: its server may be what the worker was waiting for, and here nothing limits the time.
    """
    sample = _Decoded(reason=reason)
    content = stored.stored if isinstance(stored, KeyedSample) else stored
    remote = isinstance(content, FileSlice) and is_url(content.path)
    if not remote and not isinstance(content, (ArrayWindow, AudioSegment)):
        try:
            sample.take_content(read_stored(content))
        except BadSignalError as error:
            sample.reason = str(error)
    signals = _encoded(_no_signals(preparation), preparation, encoder)
    return DecodedChunk(signals, {0: sample.reason or reason}, [sample.sha256], [sample.num_bytes])


def joined(chunks: Sequence[DecodedChunk]) -> DecodedChunk:
    """One chunk of the samples of several."""
    reasons: dict[int, str] = {}
    start = 0
    for chunk in chunks:
        reasons.update({start + position: reason for position, reason in chunk.reasons.items()})
        start += len(chunk.hashes)
    parts = [chunk.signals for chunk in chunks]
    ragged = any(isinstance(part, list) for part in parts)
    return DecodedChunk(
        signals=[signal for part in parts for signal in part] if ragged else np.concatenate(parts),
        reasons=reasons,
        hashes=[sha256 for chunk in chunks for sha256 in chunk.hashes],
        num_bytes=[count for chunk in chunks for count in chunk.num_bytes],
    )


@dataclass
class _Decoded:
    """One sample: a signal, or the reason why there is none."""

    signal: np.ndarray | None = None
    reason: str | None = None
    sha256: str | None = None
    num_bytes: int = 0

    def take_content(self, content: bytes | np.ndarray) -> None:
        view = memoryview(content).cast("B")
        self.sha256, self.num_bytes = sha256_hex(view), len(view)


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
        decoded.reason = str(error)
    except MemoryError:
        if preparation.memory_bytes is None:
            raise
        decoded.reason = f"decoding it takes more than {preparation.memory_bytes // GIB} GiB of memory"
    return decoded


def _gathered(signals: list[np.ndarray], preparation: Preparation) -> np.ndarray | list[np.ndarray]:
    if preparation.ragged or not signals:
        return signals or _no_signals(preparation)
    return np.stack(signals)


def _encoded(
    signals: np.ndarray | list[np.ndarray], preparation: Preparation, encoder: FusedEncoder | None
) -> np.ndarray | list[np.ndarray]:
    """Codes (N, K, …) of signals (N, C, …), with views (N, V, K, …) of (N, V, C, …); without an encoder the signals."""
    if encoder is None or not isinstance(signals, np.ndarray):
        return signals
    rank = len(preparation.shape)
    codes = encoder.encode(signals.reshape(-1, *preparation.shape))
    return codes.reshape(*signals.shape[:-rank], *codes.shape[1:])


def _no_signals(preparation: Preparation) -> np.ndarray | list[np.ndarray]:
    if preparation.ragged:
        return []
    views = (len(preparation.view_names),) if preparation.view_names else ()
    return np.empty((0, *views, *preparation.shape), preparation.dtype)
