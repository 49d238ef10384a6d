"""The result of decoding a chunk of samples, which is the work of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from datasets_prep.samples.stored import ReadFailure


@dataclass(frozen=True)
class DecodedChunk:
    """The samples of one task; those that can be used are decoded."""

    signals: np.ndarray | list[np.ndarray]
    """The signals of the N samples without a reason: (N, …), or (N, V, …) with views, in the preparation's dtype, or a
    list if each sample has its own size. If the worker encodes, they are the codes, or rows of bit planes, instead."""
    reasons: dict[int, str]
    """Maps a sample's position in the task to the reason why it is not in `signals`."""
    hashes: list[str | None]
    """The SHA-256 (hex) of every sample's content; None if the content could not be read.

    The content is the stored file, also of samples that cannot be used. For windows of an array and segments of a clip,
    which share a file, it is the prepared signal; unusable ones have no hash.
    """
    num_bytes: list[int]
    """The size of every sample's hashed content; 0 if there is none."""
    failures: dict[int, ReadFailure] = field(default_factory=dict)
    """Of the samples with a reason, by position, those that the system could not read: they need not be bad."""


def concatenate_chunks(chunks: Sequence[DecodedChunk]) -> DecodedChunk:
    """Return one chunk with the samples of several chunks, in order."""
    reasons: dict[int, str] = {}
    failures: dict[int, ReadFailure] = {}
    start = 0
    for chunk in chunks:
        reasons.update({start + position: reason for position, reason in chunk.reasons.items()})
        failures.update({start + position: failure for position, failure in chunk.failures.items()})
        start += len(chunk.hashes)
    parts = [chunk.signals for chunk in chunks]
    ragged = any(isinstance(part, list) for part in parts)
    return DecodedChunk(
        signals=[signal for part in parts for signal in part] if ragged else np.concatenate(parts),
        reasons=reasons,
        hashes=[sha256 for chunk in chunks for sha256 in chunk.hashes],
        num_bytes=[count for chunk in chunks for count in chunk.num_bytes],
        failures=failures,
    )
