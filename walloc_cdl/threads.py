"""The number of torch's threads for a job: chosen once, by a measurement on the job's own work.

Torch's threads wait for one another at the end of every operation, and spin while they wait. Beside another program
that uses the same CPUs, most of their time passes so: on two CPUs with two other busy programs, training with two
threads reached 24 images/s where one thread reached 626. No figure of the system says reliably how many CPUs are free
(containers have quotas, and load averages lag behind), so that a part of the job is timed with several numbers of
threads.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from walloc_cdl.errors import CallError

SHORT_JOB_S = 10.0
"""Jobs that are expected to take less time, in seconds, keep the number of threads that is set."""

MIN_GAIN = 1.15
"""By how much another number must be faster than the number that is set, so that chance does not choose."""

TRIAL_S = 1.5
"""Time in seconds after which no further round of trials begins."""

MAX_ROUNDS = 7

MIN_TRIAL_S = 0.05
"""Time in seconds that one trial takes at least, by repetition: several time slices of a busy processor."""

MAX_THREADS = 4096
"""Largest number of threads that is accepted, so that a damaged file cannot ask for more."""


@contextmanager
def torch_threads(num_threads: int | None) -> Iterator[None]:
    """Let torch, and with it the compiled encoder, use `num_threads` threads while the block runs; None for no change.

    The setting holds for the calling thread and for those that start operations later.
    """
    before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def require_threads(num_threads: int | None) -> None:
    """Raise `CallError` for a number of threads below 1 or above `MAX_THREADS`."""
    if num_threads is not None and not 1 <= num_threads <= MAX_THREADS:
        raise CallError(f"threads is {num_threads}; it must be at least 1 and at most {MAX_THREADS:,}")


def choose_threads(
    work: Callable[[], object], num_calls: int, *, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Return the number of threads, at most the number that is set, with which `work` is fastest now.

    `work` is a part of the job that is repeated about `num_calls` times, without lasting effects. For a job that takes
    less than `SHORT_JOB_S` seconds the number that is set is returned after a call or two. Otherwise the numbers are
    tried by turns (all, half as many, …, 1), and those that are far behind are dropped after every round. The choice
    depends on the load of the machine: give the number that a job recorded to repeat it exactly.
    """
    largest = torch.get_num_threads()
    if largest == 1:
        return 1

    def seconds(num_threads: int, num_repeats: int = 1) -> float:
        with torch_threads(num_threads):
            start = clock()
            for _ in range(num_repeats):
                work()
            return clock() - start

    # The first call with a number of threads also prepares kernels for it, so that it is only an upper bound.
    if seconds(largest) * num_calls < SHORT_JOB_S or (usual := seconds(largest)) * num_calls < SHORT_JOB_S:
        return largest
    num_repeats = math.ceil(MIN_TRIAL_S / max(usual, 1e-6))
    first = {largest: usual}
    while (smallest := min(first)) > 1:
        first[smallest // 2] = seconds(smallest // 2)
    candidates = [candidate for candidate in first if first[candidate] < 4 * min(first.values())]
    if len(candidates) == 1:
        return candidates[0]
    times: dict[int, list[float]] = {candidate: [] for candidate in candidates}
    medians: dict[int, float] = {}
    start = clock()
    for number in range(MAX_ROUNDS):
        for candidate in candidates:
            times[candidate].append(seconds(candidate, num_repeats))
        medians = {candidate: statistics.median(times[candidate]) for candidate in candidates}
        candidates = [candidate for candidate in candidates if medians[candidate] < 2 * min(medians.values())]
        if len(candidates) == 1 or (number and clock() - start > TRIAL_S):
            break
    best = min(candidates, key=medians.__getitem__)
    return largest if largest in candidates and medians[largest] < MIN_GAIN * medians[best] else best
