"""`cdl bench load`: shuffled batches of 12×32×32 codes, read by `LatentLoader` and by others.

The limit is `torch.index_select` of shuffled rows of the same memory-mapped codes: it copies and does nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.autotune import Candidate, choose_peer_settings, choose_setting
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.reading import TRIAL_S, ReadingConfig, our_readers, read_for, reading_task
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.threads import choose_threads, torch_threads
from experiments.benchmarks.timing import OnPhase, OnRun, Run, Timing, silent, time_in_turn, until
from experiments.peers.catalog import choose_peers
from experiments.peers.peer import Batch, ReadEpoch, ReadingTask

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
        judges = (read_for(TRIAL_S), feed_for(TRIAL_S))
        # A thread that reads ahead is one more, which a consumer that waits for nothing else may only have with two.
        reading, feeding = our_readers(task, ahead=threads > 1), our_readers(task)
        entered = [
            (choose_setting(name, reading[name], judges[0]), choose_setting(name, feeding[name], judges[1]))
            for name in reading
        ]
        others, failed = choose_peer_settings(peers, lambda peer: peer.read_settings(task), judges, on_phase)
        entered += others
        candidates = [fastest for fastest, _ in entered]
        runs = {name: read_for(timing.max_s)(read) for name, read in index_select_readers(task).items()}
        runs |= {each.name: read_for(timing.max_s)(each.setting.work) for each in candidates}
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "reading"))
        feeders = {feeder.name: feeder for _, feeder in entered}
        waiting = _waiting_in_turn(feeders, timing, partial(on_phase, "feeding a consumer"))
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
        figures=[
            _figure(fastest, feeder, rates[fastest.name], limits, waiting[fastest.name]) for fastest, feeder in entered
        ],
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


def feed_for(max_s: float) -> Callable[[ReadEpoch], Run]:
    """Feeds a consumer with an epoch, for so many seconds at most, and counts samples."""

    def make_run(read: ReadEpoch) -> Run:
        return lambda epoch: sum(count for count, _ in fed(read(epoch), max_s))

    return make_run


def _waiting_in_turn(feeders: dict[str, Candidate[ReadEpoch]], timing: Timing, on_run: OnRun) -> dict[str, list[float]]:
    """Shares of waiting, one a repeat, of a consumer of each."""
    found: dict[str, list[float]] = {name: [] for name in feeders}

    def make_run(name: str) -> Run:
        def run(epoch: int) -> float:
            found[name].append(waiting_share(feeders[name].setting.work(epoch), timing.max_s))
            return 1.0

        return run

    time_in_turn({name: make_run(name) for name in feeders}, timing.repeats, on_run)
    return found


def waiting_share(batches: Iterable[Batch], max_s: float) -> float:
    """What part of its time a consumer waits for batches."""
    begin = time.perf_counter()
    waited = sum(wait for _, wait in fed(batches, max_s))
    return waited / (time.perf_counter() - begin)


def fed(batches: Iterable[Batch], max_s: float) -> Iterator[tuple[int, float]]:
    """Samples and seconds of waiting for each batch of a consumer that takes 10 ms for 256.

    It sleeps, as a program does whose GPU works, so that readers have the CPU.
    """
    mark = time.perf_counter()
    for _, labels in until(batches, max_s):
        waited = time.perf_counter() - mark
        time.sleep(CONSUMER_S * len(labels) / CONSUMER_SAMPLES)
        yield len(labels), waited
        mark = time.perf_counter()


def _figure(
    fastest: Candidate[ReadEpoch],
    feeder: Candidate[ReadEpoch],
    rates: Sequence[float],
    limits: Sequence[float],
    waiting: Sequence[float],
) -> Figure:
    setting = fastest.setting
    return Figure(
        fastest.name,
        setting.text,
        setting.documented,
        rates,
        limits,
        fastest.tried,
        waiting,
        feeder.setting.text,
    )
