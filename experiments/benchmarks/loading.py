"""`cdl bench load`: shuffled batches of 12×32×32 codes, read by `LatentLoader` and by others.

The limit is `torch.index_select` of shuffled rows of the same memory-mapped codes: it copies and does nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.contest import Contestant, enter, enter_peers
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.reading import TRIAL_S, ReadingConfig, our_readers, read_for, reading_task
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.threads import choose_threads, torch_threads
from experiments.benchmarks.timing import OnPhase, OnRun, Run, Timing, silent, time_in_turn, until
from experiments.peers.base import Batch, ReadEpoch, ReadingTask
from experiments.peers.catalog import choose_peers

CONSUMER_S = 0.010
"""What the consumer takes for a batch of `CONSUMER_SAMPLES`."""
CONSUMER_SAMPLES = 256
LIMIT_NAMES = ("index_select", "index_select, 1 thread")


def measure_loading(
    config: ReadingConfig,
    timing: Timing,
    against: str | None = None,
    *,
    folder: Path | str | None = None,
    on_phase: OnPhase = silent,
) -> Result:
    """Write a made-up data set to a temporary folder (below `folder`) and time shuffled epochs on the CPU.

    `against` names the peers, as `cdl bench load --against` does. The shares are of the faster `index_select`,
    with all threads or one, since a team of threads collapses where another program holds a core. Then each
    feeds a consumer that takes 10 ms for 256 samples, and what counts is how long that waits.
    """
    peers, absent = choose_peers("load", against)
    threads = choose_threads(config.threads)
    with tempfile.TemporaryDirectory(dir=folder, prefix="cdl-bench-") as parent, torch_threads(threads):
        machine = describe_machine(tuple(peer.package for peer in peers if peer.package))
        on_phase("writing made-up data", 0, 0)
        task = reading_task(Path(parent), config, peers, threads)
        trial = read_for(TRIAL_S)
        contestants = [enter(name, settings, trial) for name, settings in our_readers(task).items()]
        others, failed = enter_peers(peers, lambda peer: peer.read_settings(task), trial, on_phase)
        contestants += others
        runs = {name: read_for(timing.max_s)(read) for name, read in index_select_readers(task).items()}
        runs |= {each.name: read_for(timing.max_s)(each.setting.work) for each in contestants}
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "reading"))
        waiting = _waiting_in_turn(contestants, timing, partial(on_phase, "feeding a consumer"))
        num_samples = len(task.dataset)
    limits = [max(both) for both in zip(*(rates[name] for name in LIMIT_NAMES), strict=True)]
    return Result(
        benchmark="load",
        unit="samples/s",
        work={
            "samples": num_samples,
            "bytes": config.num_bytes,
            "shape": "12x32x32",
            "batch_size": config.batch_size,
            "images": config.images_text,
            "repeats": timing.repeats,
            "seconds_at_most": timing.max_s,
            "consumer_ms": 1e3 * CONSUMER_S * config.batch_size / CONSUMER_SAMPLES,
        },
        machine=machine,
        limits=[Limit(name, _LIMIT_TEXTS[name], rates[name]) for name in LIMIT_NAMES],
        figures=[_figure(each, rates[each.name], limits, waiting[each.name]) for each in contestants],
        absent=[*absent, *failed],
    )


_LIMIT_TEXTS = {
    LIMIT_NAMES[0]: "shuffled rows of each memory-mapped shard in turn, all threads; the faster of the two counts",
    LIMIT_NAMES[1]: "the same by one thread",
}


def index_select_readers(task: ReadingTask) -> dict[str, ReadEpoch]:
    """What nothing can be faster than: shuffled within each shard, one after the other, as it takes one tensor."""
    dataset = task.dataset
    mapped = [torch.from_numpy(dataset.shard_codes(number)) for number in range(len(dataset.shard_starts) - 1)]
    labels = torch.from_numpy(dataset.labels)

    def select(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng(epoch)
        for codes, start in zip(mapped, dataset.shard_starts.tolist(), strict=False):
            for rows in torch.from_numpy(rng.permutation(len(codes))).split(task.batch_size):
                yield codes.index_select(0, rows), labels[start : start + len(codes)][: len(rows)]

    def select_alone(epoch: int) -> Iterator[Batch]:
        with torch_threads(1):
            yield from select(epoch)

    return dict(zip(LIMIT_NAMES, (select, select_alone), strict=True))


def _waiting_in_turn(
    contestants: Sequence[Contestant[ReadEpoch]], timing: Timing, on_run: OnRun
) -> dict[str, list[float]]:
    """Shares of waiting, one a repeat, of a consumer of each."""
    found: dict[str, list[float]] = {each.name: [] for each in contestants}

    def make_run(each: Contestant[ReadEpoch]) -> Run:
        def run(epoch: int) -> float:
            found[each.name].append(waiting_share(each.setting.work(epoch), timing.max_s))
            return 1.0

        return run

    time_in_turn({each.name: make_run(each) for each in contestants}, timing.repeats, on_run)
    return found


def waiting_share(batches: Iterable[Batch], max_s: float) -> float:
    """What part of its time a consumer waits that takes 10 ms for 256 samples, as a GPU would: without the CPU."""
    begin = mark = time.perf_counter()
    waited = 0.0
    for _, labels in until(batches, max_s):
        waited += time.perf_counter() - mark
        time.sleep(CONSUMER_S * len(labels) / CONSUMER_SAMPLES)
        mark = time.perf_counter()
    return waited / (mark - begin)


def _figure(
    each: Contestant[ReadEpoch], rates: Sequence[float], limits: Sequence[float], waiting: Sequence[float]
) -> Figure:
    return Figure(each.name, each.setting.text, each.setting.documented, rates, limits, each.tried, waiting)
