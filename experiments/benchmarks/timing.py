"""Times several candidates for the same work in turn.

Every candidate runs once in each repeat, so that noise of the machine affects all of them equally, and the fraction of
the limit is computed within a repeat.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from walloc_cdl.errors import CallError

Item = TypeVar("Item")

Run = Callable[[int], float]
"""Does the work once, given the number of the repeat; returns the number of units done."""

OnRun = Callable[[int, int], object]
"""Called with the number of finished runs and the number of all runs."""

OnPhase = Callable[[str, int, int], object]
"""Called with the name of a phase and the numbers of its finished runs and all its runs; 0 for a phase without runs."""


def silent(phase: str, done: int, total: int) -> None:
    """An `OnPhase` that shows nothing."""


@dataclass(frozen=True)
class Timing:
    """Number and duration of the runs."""

    repeats: int = 5
    """Runs of each candidate, in turn; the median counts."""
    max_s: float = 10.0
    """Seconds after which a run ends at its next batch; rates are per unit, so slow candidates may do fewer."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise CallError(f"repeats is {self.repeats}; it must be at least 1")
        if not self.max_s > 0:
            raise CallError(f"seconds is {self.max_s:g}; it must be above 0")


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and their range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one figure."""
        return cls(statistics.median(values), min(values), max(values))


def time_in_turn(runs: dict[str, Run], repeats: int, on_run: OnRun | None = None) -> dict[str, list[float]]:
    """Returns units per second of each run in each repeat; the first run rotates from repeat to repeat."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(repeats):
        for position in range(len(names)):
            name = names[(repeat + position) % len(names)]
            rates[name].append(rate_of(runs[name], repeat))
            if on_run:
                on_run(repeat * len(names) + position + 1, repeats * len(names))
    return rates


def rate_of(run: Run, repeat: int = 0) -> float:
    """Returns units per second of one run."""
    start = time.perf_counter()
    units = run(repeat)
    return units / (time.perf_counter() - start)


def shares(rates: Sequence[float], limits: Sequence[float]) -> Spread:
    """Returns the fractions of the limit that the repeats reached."""
    return Spread.of([rate / limit for rate, limit in zip(rates, limits, strict=True)])


def limit_time(items: Iterable[Item], max_s: float) -> Iterable[Item]:
    """Yield the items until `max_s` seconds have passed since the first was requested."""
    end = time.perf_counter() + max_s
    for item in items:
        yield item
        if time.perf_counter() > end:
            return
