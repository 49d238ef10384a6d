"""Trying again what may pass: a busy server, a lost connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")

_PASSING_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that say "later": request timeout, too early, too many requests."""


def is_passing_status(status: object) -> bool:
    """Whether a request that was answered with this HTTP status is worth another try: the server is busy, or fails."""
    return isinstance(status, int) and (status >= 500 or status in _PASSING_STATUSES)


def retry(
    attempt: Callable[[], Result],
    pauses_s: Sequence[float],
    *,
    may_pass: Callable[[Exception], bool],
    jitter: float = 0.0,
) -> Result:
    """What `attempt` returns; after an error that may pass it is called again, once after each pause.

    With `jitter` each pause is made longer by up to that share of it at random, so that many clients of a server do
    not return to it at the same time. Raises the last error.
    """
    for pause_s in pauses_s:
        try:
            return attempt()
        except Exception as error:
            if not may_pass(error):
                raise
        time.sleep(pause_s * (1 + jitter * random.random()))
    return attempt()
