"""What becomes of a chunk of samples, the work of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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


def concatenate_chunks(chunks: Sequence[DecodedChunk]) -> DecodedChunk:
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
