"""Batch buffers that are reused as soon as no view of them exists."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np


class BufferPool:
    """Lends uint8 arrays for batches; new memory costs a page fault every 4 KiB, which takes as long as the copy.

    The caller may keep an array for any time: its buffer returns to the pool when the last view or tensor of
    it is deleted, and a pool without a free buffer allocates another.
    """

    def __init__(self, batch_size: int, shape: tuple[int, ...]) -> None:
        self._shape = (batch_size, *shape)
        self._free: deque[np.ndarray] = deque()

    def lend(self, count: int) -> np.ndarray:
        """Returns an uninitialized uint8 array (count, …), count ≤ `batch_size`; `torch.from_numpy` may wrap it."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(self._shape, np.uint8)
        lease = buffer[:count]
        # All views, and the storage of a tensor made from it, refer to `lease`: it is deleted after the last of them.
        weakref.finalize(lease, self._free.append, buffer).atexit = False
        return lease
