"""numba's compiler with the options of the kernels: no global interpreter lock, and a cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for functions that numba compiles at their first call; `options` are passed to numba.

    The compiled code is cached next to the module or in the user's cache folder. If neither is writable, such as in
    containers that run under an arbitrary user ID, each process compiles the functions again.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(function, nogil=True, cache=True, **options)
        except RuntimeError:  # numba: "cannot cache function …: no locator available"
            return njit(function, nogil=True, **options)

    return decorate
