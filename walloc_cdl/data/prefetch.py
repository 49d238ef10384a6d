"""Making things ahead of their consumer, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def make_ahead(make: Callable[[Item], Made], items: Sequence[Item], depth: int) -> Iterator[Made]:
    """Yield `make(item)` for each item in order, up to `depth` of them made ahead by a thread.

    A consumer that is faster than the thread makes items, too, so that both are busy. With depth 0 there is no thread.
    What `make` raises is raised at its place in the order. When the consumer leaves, the thread ends before this
    returns.
    """
    if depth == 0:
        yield from map(make, items)
        return
    ahead = _Ahead(make, items, depth)
    maker = threading.Thread(target=ahead.work, name="latent-prefetch", daemon=True)
    maker.start()
    try:
        for number in range(len(items)):
            yield ahead.take(number)
    finally:
        ahead.stop()
        maker.join()


class _Ahead(Generic[Item, Made]):
    """What the thread and the consumer share."""

    def __init__(self, make: Callable[[Item], Made], items: Sequence[Item], depth: int) -> None:
        self._make, self._items, self._depth = make, items, depth
        self._made: dict[int, tuple[Made | None, BaseException | None]] = {}
        self._begun = 0
        """Items before this one are made, or being made."""
        self._end = min(depth, len(items))
        """Items from this one on are for later."""
        self._stopped = False
        lock = threading.Lock()
        self._room, self._news = threading.Condition(lock), threading.Condition(lock)

    def work(self) -> None:
        """Make one item after the other: what the thread does."""
        while True:
            with self._room:
                while self._begun == self._end < len(self._items) and not self._stopped:
                    self._room.wait()
                if self._stopped or self._begun == len(self._items):
                    return
                number = self._begin()
            self._finish(number)

    def take(self, number: int) -> Made:
        """The item made of this number; called with each in order."""
        while True:
            with self._news:
                if number in self._made:
                    return self._taken(number)
                if self._begun == self._end:
                    self._news.wait()  # for the thread that is at it
                    continue
                own = self._begin()
            self._finish(own)  # sooner done than waited for

    def stop(self) -> None:
        """Let the thread end."""
        with self._room:
            self._stopped = True
            self._room.notify()

    def _begin(self) -> int:
        self._begun += 1
        return self._begun - 1

    def _finish(self, number: int) -> None:
        try:
            made = self._make(self._items[number]), None
        except Exception as error:  # the consumer's to deal with, at its place
            made = None, error
        except BaseException as error:  # Ctrl-C while the consumer made it is not to wait
            self._store(number, (None, error))
            raise
        self._store(number, made)

    def _store(self, number: int, made: tuple[Made | None, BaseException | None]) -> None:
        with self._news:
            self._made[number] = made
            self._news.notify()

    def _taken(self, number: int) -> Made:
        made, error = self._made.pop(number)
        # A thread that is woken may take the core from the one that wakes it, so it is asked for several items at once.
        if self._begun - number <= self._depth // 2 + 1:
            self._end = min(number + 1 + self._depth, len(self._items))
            self._room.notify()
        if error is not None:
            raise error
        return made
