"""Retries of operations that fail temporarily, such as requests to a busy server or over a lost connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")

_TRANSIENT_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that ask the client to try again: request timeout, too early, too many requests."""

_FINAL_SERVER_STATUSES = frozenset({501, 505})
"""Statuses of a server that does not support the request: not implemented, version not supported."""


def is_transient_status(status: object) -> bool:
    """Return whether a request with this HTTP status may succeed later, since the server is busy or fails."""
    if not isinstance(status, int):
        return False
    return status in _TRANSIENT_STATUSES or (status >= 500 and status not in _FINAL_SERVER_STATUSES)


def retry(
    attempt: Callable[[], Result],
    pauses_s: Sequence[float],
    *,
    is_transient: Callable[[Exception], bool],
    jitter: float = 0.0,
) -> Result:
    """Return the result of `attempt`, which is called again after a transient error, once after each pause.

    `jitter` lengthens each pause by a random fraction of up to `jitter`, so that many clients of a server do not return
    to it at the same time. Raises the last error.
    """
    for pause_s in pauses_s:
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(pause_s * (1 + jitter * random.random()))
    return attempt()
