"""Making things ahead of their consumer, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def make_ahead(make: Callable[[Item], Made], items: Sequence[Item], depth: int) -> Iterator[Made]:
    """Yield `make(item)` for each item in order, up to `depth` of them made ahead by as many threads.

    With depth 0 there is no thread. What `make` raises is raised at its place in the order. When the
    consumer leaves, the threads end before this returns.
    """
    if depth == 0:
        yield from map(make, items)
        return
    pending: deque[Future[Made]] = deque()
    threads = ThreadPoolExecutor(depth, thread_name_prefix="latent-prefetch")
    try:
        for item in items:
            pending.append(threads.submit(make, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
