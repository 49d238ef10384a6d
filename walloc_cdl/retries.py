"""Retries and time limits of operations that fail temporarily, such as requests to a busy server.

The packages of remote file systems limit single waits at best, so that a server which sends a byte now and then would
hold a command for years. Nothing can end such a call from outside. So a `Deadline` has it made in a thread of its own,
which is abandoned when the time has passed.
"""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")

_TRANSIENT_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that ask the client to try again: request timeout, too early, too many requests."""

_FINAL_SERVER_STATUSES = frozenset({501, 505})
"""Statuses of a server that does not support the request: not implemented, version not supported."""

REMOTE_S = 60.0
"""Time limit for a remote operation that transfers little, with all attempts."""

LISTING_S = 600.0
"""Time limit for listing a remote folder, which takes a second for some thousand files."""

SLOWEST_BYTES_PER_S = 50_000
"""A transfer may take the time that it takes at this rate, besides `REMOTE_S`."""


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


def transfer_s(num_bytes: int) -> float:
    """Return the time limit in seconds for a transfer of so many bytes, with all attempts."""
    return round(REMOTE_S + num_bytes / SLOWEST_BYTES_PER_S, 1)


class Deadline:
    """The end of the time allowed for an operation of several steps."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: the time allowed, in seconds, from now on."""
        self.limit_s = limit_s
        self._end = time.monotonic() + limit_s

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._end

    def left_s(self) -> float:
        """Return the time that is left, in seconds; raises `TimeoutError` if there is none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._error()
        return left

    def allow_for(self, num_bytes: int) -> None:
        """Add the time for a transfer of so many bytes, at the slowest rate."""
        more_s = num_bytes / SLOWEST_BYTES_PER_S
        self.limit_s, self._end = round(self.limit_s + more_s, 1), self._end + more_s

    def call(self, function: Callable[[], Result]) -> Result:
        """Return the result of `function`, which another thread calls; raises what it raises.

        Raises `TimeoutError` when the time has passed. The thread is then abandoned: `function` must not change
        anything that the caller still uses.
        """
        left = self.left_s()
        helper = getattr(_helpers, "idle", None)
        if helper is None or helper.pid != os.getpid():  # threads do not live on in a forked process
            helper = _Helper()
        _helpers.idle = None  # until it has answered
        try:
            error, result = helper.ask(function).get(timeout=left)
        except queue.Empty:
            raise self._error() from None
        _helpers.idle = helper
        if error is not None:
            raise error
        return result

    def _error(self) -> TimeoutError:
        return TimeoutError(f"took longer than {self.limit_s:g} s")


_Answers = queue.SimpleQueue[tuple[BaseException | None, Any]]
_Questions = queue.SimpleQueue[tuple[Callable[[], Any], _Answers] | None]


class _Helper:
    """A thread that makes calls for one other thread.

    It is kept, since fsspec has instances of its file systems, with their connections, for each thread.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._questions: _Questions = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self._questions,), daemon=True, name="remote calls").start()

    def ask(self, function: Callable[[], Any]) -> _Answers:
        answers: _Answers = queue.SimpleQueue()
        self._questions.put((function, answers))
        return answers

    def __del__(self) -> None:
        self._questions.put(None)


_helpers = threading.local()


def _serve(questions: _Questions) -> None:
    while _answer(questions):
        pass


def _answer(questions: _Questions) -> bool:
    """Make the next call; in a function, so that its result is not kept while the thread waits."""
    question = questions.get()
    if question is None:
        return False
    function, answers = question
    try:
        answers.put((None, function()))
    except BaseException as error:  # which the caller raises
        answers.put((error, None))
    return True
