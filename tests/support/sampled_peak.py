"""The most that a measure of memory reaches, looked at twenty times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable


class SampledPeak:
    """Context manager: `start_bytes` is the measure at the beginning, `num_bytes` the most while the block ran."""

    def __init__(self, measure: Callable[[], int]) -> None:
        self._measure = measure

    def __enter__(self) -> SampledPeak:
        self.start_bytes = self.num_bytes = self._measure()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.num_bytes = max(self.num_bytes, self._measure())
