"""Keeps the spectrograms of a training split, which are the same in every epoch, since nothing before them is trained.

On one thread, a spectrogram of five seconds takes as long as a training step of a small network with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MAX_CACHE_BYTES = 2**30
"""Memory for the spectrograms of a run."""


class SpectrogramCache:
    """Computes spectrograms of codes (B, …) by `compute`, and those of codes that it has seen only once.

    Each is computed by itself, so that its last bits depend neither on its batch nor on what is kept: a resumed run
    equals an uninterrupted one.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor], max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._compute, self._room = compute, max_bytes
        self._kept: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, codes: Tensor) -> Tensor:
        """Return the spectrograms (B, C, bands, columns) of codes, uint8, on the CPU."""
        return torch.cat([self._one(codes[row : row + 1]) for row in range(len(codes))])

    def _one(self, codes: Tensor) -> Tensor:
        key = codes.numpy().tobytes()
        if (found := self._kept.get(key)) is not None:
            return found
        grid = self._compute(codes)
        self._room -= grid.nbytes + len(key)
        if self._room >= 0:
            self._kept[key] = grid
        return grid
