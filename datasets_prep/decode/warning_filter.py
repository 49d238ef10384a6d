"""Ignores Python's warnings while files are decoded, in any number of threads.

`warnings.catch_warnings` saves and restores the filters of the whole process. If threads overlap, one restores filters
while another still decodes, and the last may leave those of another thread behind; so all threads share one, which the
first opens and the last closes.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_num_inside = 0
_filters: warnings.catch_warnings | None = None


@contextmanager
def warnings_ignored() -> Iterator[None]:
    """Ignore all warnings of the process while at least one thread is in such a block."""
    global _num_inside, _filters
    with _lock:
        if not _num_inside:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
        _num_inside += 1
    try:
        yield
    finally:
        with _lock:
            _num_inside -= 1
            if not _num_inside and _filters is not None:
                _filters.__exit__(None, None, None)
                _filters = None
