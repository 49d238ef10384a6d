"""Batch buffers that are used again as soon as nobody holds a view of theirs."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np


class BufferPool:
    """Lends uint8 arrays for batches; fresh memory costs a page fault every 4 KiB, as long as the copy itself.

    An array may be kept for as long as one likes: its buffer comes back when the last view or tensor of
    it is gone, and a pool without a free buffer makes another.
    """

    def __init__(self, batch_size: int, shape: tuple[int, ...]) -> None:
        self._shape = (batch_size, *shape)
        self._free: deque[np.ndarray] = deque()

    def lend(self, count: int) -> np.ndarray:
        """An uninitialised uint8 array (count, …) for at most `batch_size` samples; `torch.from_numpy` may wrap it."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(self._shape, np.uint8)
        lease = buffer[:count]
        # Views hold `lease`, and so does the storage of a torch tensor made of it: it dies with the last of them.
        weakref.finalize(lease, self._free.append, buffer).atexit = False
        return lease
