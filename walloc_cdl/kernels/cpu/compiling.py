"""numba's compiler as the kernels use it: without the interpreter's lock, and kept for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for functions that numba compiles at their first call; `options` are numba's.

    What is compiled is kept beside the module or in the user's cache. Where neither can be written, as in containers
    that run under an arbitrary user ID, each process compiles for itself.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(function, nogil=True, cache=True, **options)
        except RuntimeError:  # numba: "cannot cache function …: no locator available"
            return njit(function, nogil=True, **options)

    return decorate
