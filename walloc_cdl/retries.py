"""Retrying what may fail for a moment only: a busy server, a lost connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")

_TRANSIENT_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that say "later": request timeout, too early, too many requests."""

_FINAL_SERVER_STATUSES = frozenset({501, 505})
"""Statuses of a server that lacks what was asked for (not implemented, version not supported)."""


def is_transient_status(status: object) -> bool:
    """Whether a request that was answered with this HTTP status is worth another try: the server is busy, or fails."""
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
    """Return what `attempt` returns; after a transient error it is called again, once after each pause.

    With `jitter` each pause is made longer by up to that share of it at random, so that many clients of a server do
    not return to it at the same time. Raises the last error.
    """
    for pause_s in pauses_s:
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(pause_s * (1 + jitter * random.random()))
    return attempt()
