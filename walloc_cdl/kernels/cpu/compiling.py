"""numba's compiler with the options of the kernels: no global interpreter lock, and a cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import njit

from walloc_cdl.errors import CdlError
from walloc_cdl.file_locks import open_locked


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


@contextmanager
def compiling_once(function: Any) -> Iterator[None]:
    """Let one process after another run the block if no code of the compiled `function` is cached yet.

    So the first one compiles, and the others load what it has cached. Without a cache or locks, all run at once.
    """
    folder = function.stats.cache_path
    with ExitStack() as stack:
        if folder and not any(Path(folder).glob(f"*.{function.__name__}-*.nbi")):
            with suppress(OSError, CdlError):
                stack.enter_context(open_locked(Path(folder) / "compiling.lock", wait=True))
        yield
