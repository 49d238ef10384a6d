"""Timing several ways of one piece of work in turn, so that a noisy machine is unfair to all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from walloc_cdl.errors import CallError

Item = TypeVar("Item")

Run = Callable[[int], float]
"""Does the work once, given the number of the repeat; returns how many units of it were done."""

OnRun = Callable[[int, int], object]
"""Called with the runs done and all."""

OnPhase = Callable[[str, int, int], object]
"""Called with what is being done, and the runs of it done and all; 0 where there is nothing to count."""


def silent(phase: str, done: int, total: int) -> None:
    """An `OnPhase` that shows nothing."""


@dataclass(frozen=True)
class Timing:
    """How the runs are repeated."""

    repeats: int = 5
    """Runs of each way, in turn; the median counts."""
    max_s: float = 10.0
    """Seconds after which a run ends at its next batch: rates are for each unit, so slow ways may do fewer."""

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
        """Of at least one figure."""
        return cls(statistics.median(values), min(values), max(values))


def time_in_turn(runs: dict[str, Run], repeats: int, on_run: OnRun | None = None) -> dict[str, list[float]]:
    """Units a second of each run, one figure a repeat; each repeat begins with another run than the one before."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(repeats):
        for place in range(len(names)):
            name = names[(repeat + place) % len(names)]
            rates[name].append(rate_of(runs[name], repeat))
            if on_run:
                on_run(repeat * len(names) + place + 1, repeats * len(names))
    return rates


def rate_of(run: Run, repeat: int = 0) -> float:
    """Units a second of one run."""
    start = time.perf_counter()
    units = run(repeat)
    return units / (time.perf_counter() - start)


def shares(rates: Sequence[float], limits: Sequence[float]) -> Spread:
    """What part of its limit each repeat reached."""
    return Spread.of([rate / limit for rate, limit in zip(rates, limits, strict=True)])


def until(items: Iterable[Item], max_s: float) -> Iterable[Item]:
    """The items, until so many seconds have passed since the first was asked for."""
    end = time.perf_counter() + max_s
    for item in items:
        yield item
        if time.perf_counter() > end:
            return
