"""`prefetch_map`: computes items ahead of their consumer in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(function: Callable[[Item], Result], items: Sequence[Item], depth: int) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, while a thread computes up to `depth` of them ahead.

    A consumer that is faster than the thread computes items, too, so that both are busy. With depth 0 there is no
    thread. An exception of `function` is raised in the consumer when it takes that item. When the consumer closes the
    iterator, the thread ends before `close` returns.
    """
    if depth == 0:
        yield from map(function, items)
        return
    queue = _PrefetchQueue(function, items, depth)
    thread = threading.Thread(target=queue.run, name="latent-prefetch", daemon=True)
    thread.start()
    try:
        for number in range(len(items)):
            yield queue.take(number)
    finally:
        queue.stop()
        thread.join()


class _PrefetchQueue(Generic[Item, Result]):
    """The state that the thread and the consumer share."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item], depth: int) -> None:
        self._function, self._items, self._depth = function, items, depth
        self._results: dict[int, tuple[Result | None, BaseException | None]] = {}
        self._num_started = 0
        """Items before this one are computed, or being computed."""
        self._limit = min(depth, len(items))
        """Items from this one on must not be started yet."""
        self._stopped = False
        lock = threading.Lock()
        self._limit_raised, self._result_stored = threading.Condition(lock), threading.Condition(lock)

    def run(self) -> None:
        """Compute one item after the other, in the thread."""
        while True:
            with self._limit_raised:
                while self._num_started == self._limit < len(self._items) and not self._stopped:
                    self._limit_raised.wait()
                if self._stopped or self._num_started == len(self._items):
                    return
                number = self._start_next()
            self._compute(number)

    def take(self, number: int) -> Result:
        """Returns the result of this number; the consumer calls it with each number in order."""
        while True:
            with self._result_stored:
                if number in self._results:
                    return self._pop_result(number)
                if self._num_started == self._limit:
                    self._result_stored.wait()  # until the thread has computed it
                    continue
                next_number = self._start_next()
            self._compute(next_number)  # faster than waiting for the thread

    def stop(self) -> None:
        """Let the thread end."""
        with self._limit_raised:
            self._stopped = True
            self._limit_raised.notify()

    def _start_next(self) -> int:
        self._num_started += 1
        return self._num_started - 1

    def _compute(self, number: int) -> None:
        try:
            result = self._function(self._items[number]), None
        except Exception as error:  # raised in the consumer when it takes this item
            result = None, error
        except BaseException as error:  # Ctrl-C in the consumer's own computation must be raised at once
            self._store(number, (None, error))
            raise
        self._store(number, result)

    def _store(self, number: int, result: tuple[Result | None, BaseException | None]) -> None:
        with self._result_stored:
            self._results[number] = result
            self._result_stored.notify()

    def _pop_result(self, number: int) -> Result:
        result, error = self._results.pop(number)
        # A woken thread may take the core of the one that wakes it, so the limit is raised for several items at once.
        if self._num_started - number <= self._depth // 2 + 1:
            self._limit = min(number + 1 + self._depth, len(self._items))
            self._limit_raised.notify()
        if error is not None:
            raise error
        return result
