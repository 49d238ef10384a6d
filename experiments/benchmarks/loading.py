"""`cdl bench load`: shuffled batches of 12×32×32 codes, read by `LatentLoader` and by peers.

The limits only copy: `torch.index_select` of shuffled rows of the same memory-mapped codes into new memory, and copies
of shuffled rows by plain threads into memory that they reuse, as `LatentLoader` does.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.autotune import Candidate, choose_peer_settings, choose_setting
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.reading import TRIAL_S, ReadingConfig, loader_settings, make_reading_task, read_for
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.threads import choose_threads
from experiments.benchmarks.timing import OnPhase, OnRun, Run, Timing, limit_time, silent, time_in_turn
from experiments.peers.catalog import choose_peers
from experiments.peers.peer import Batch, ReadEpoch, ReadingTask
from walloc_cdl.threads import torch_threads

CONSUMER_S = 0.010
"""Time that the consumer takes for a batch of `CONSUMER_SAMPLES`."""
CONSUMER_SAMPLES = 256
LIMIT_NAMES = ("index_select", "index_select, 1 thread", "row copies")


def measure_loading(
    config: ReadingConfig,
    timing: Timing,
    against: str | None = None,
    *,
    folder: Path | str | None = None,
    on_phase: OnPhase = silent,
) -> Result:
    """Write a synthetic data set to a temporary folder (below `folder`), and time shuffled epochs on the CPU.

    `against` names the peers, as `cdl bench load --against` does. Rates are compared with the fastest limit:
    several threads of `index_select` become slow if another program uses a core. Then each candidate
    feeds a consumer that takes 10 ms for 256 samples, and the time that the consumer waits is measured.
    """
    peers, absent = choose_peers("load", against)
    threads = choose_threads(config.threads)
    with tempfile.TemporaryDirectory(dir=folder, prefix="cdl-bench-") as parent, torch_threads(threads):
        machine = describe_machine(tuple(peer.package for peer in peers if peer.package))
        on_phase("writing synthetic data", 0, 0)
        task = make_reading_task(Path(parent), config, peers, threads)
        make_read_run, make_feed_run = read_for(TRIAL_S), feed_for(TRIAL_S)
        # Reading with a prefetching thread uses one more thread, which is only allowed if there are at least two.
        reading, feeding = loader_settings(task, prefetching=threads > 1), loader_settings(task)
        pairs = [
            (choose_setting(name, reading[name], make_read_run), choose_setting(name, feeding[name], make_feed_run))
            for name in reading
        ]
        others, failed = choose_peer_settings(
            peers, lambda peer: peer.read_settings(task), (make_read_run, make_feed_run), on_phase
        )
        pairs += others
        candidates = [reader for reader, _ in pairs]
        runs = {name: read_for(timing.max_s)(read) for name, read in limit_readers(task, threads).items()}
        runs |= {each.name: read_for(timing.max_s)(each.setting.work) for each in candidates}
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "reading"))
        feeders = {feeder.name: feeder for _, feeder in pairs}
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
        figures=[_figure(reader, feeder, rates[reader.name], limits, waiting[reader.name]) for reader, feeder in pairs],
        absent=[*absent, *failed],
    )


_LIMIT_TEXTS = {
    LIMIT_NAMES[0]: "shuffled rows of each memory-mapped shard in turn, all threads; the fastest limit counts",
    LIMIT_NAMES[1]: "the same by one thread",
    LIMIT_NAMES[2]: "batches of rows of all shards, each by one of all threads, into memory that is reused",
}


def limit_readers(task: ReadingTask, threads: int) -> dict[str, ReadEpoch]:
    """Returns the readers of the limits.

    `index_select` shuffles within each shard in turn, since each shard is one tensor. Batches of the row copies must be
    used before the next one is requested.
    """
    dataset = task.dataset
    stored = dataset.stored
    mapped = [torch.from_numpy(stored.shard_codes(number)) for number in range(stored.num_shards)]
    labels = torch.from_numpy(dataset.labels)

    def select(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng(epoch)
        for codes, start in zip(mapped, stored.starts.tolist(), strict=False):
            for rows in torch.from_numpy(rng.permutation(len(codes))).split(task.batch_size):
                yield codes.index_select(0, rows), labels[start : start + len(codes)][: len(rows)]

    def select_single_threaded(epoch: int) -> Iterator[Batch]:
        with torch_threads(1):
            yield from select(epoch)

    def copy_rows(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng(epoch).permutation(len(dataset))
        batches = deque(order[start : start + task.batch_size] for start in range(0, len(order), task.batch_size))
        free = [np.empty((task.batch_size, *dataset.layout.view_shape), np.uint8) for _ in range(threads + 1)]
        pending: deque[tuple[Future[None], np.ndarray, np.ndarray]] = deque()
        pool = ThreadPoolExecutor(threads)
        try:
            while batches or pending:
                while batches and free:
                    rows, memory = batches.popleft(), free.pop()
                    pending.append((pool.submit(stored.fill_codes, rows, memory[: len(rows)]), rows, memory))
                copied, rows, memory = pending.popleft()
                copied.result()
                yield torch.from_numpy(memory[: len(rows)]), labels[rows]
                free.append(memory)
        finally:
            pool.shutdown(cancel_futures=True)

    return dict(zip(LIMIT_NAMES, (select, select_single_threaded, copy_rows), strict=True))


def feed_for(max_s: float) -> Callable[[ReadEpoch], Run]:
    """Returns a function that makes runs, which feed a consumer for at most `max_s` seconds and count samples."""

    def make_run(read: ReadEpoch) -> Run:
        return lambda epoch: sum(count for count, _ in feed_consumer(read(epoch), max_s))

    return make_run


def _waiting_in_turn(feeders: dict[str, Candidate[ReadEpoch]], timing: Timing, on_run: OnRun) -> dict[str, list[float]]:
    """Measure the fraction of time that a consumer of each feeder waits, in each repeat."""
    waiting: dict[str, list[float]] = {name: [] for name in feeders}

    def make_run(name: str) -> Run:
        def run(epoch: int) -> float:
            waiting[name].append(waiting_share(feeders[name].setting.work(epoch), timing.max_s))
            return 1.0

        return run

    time_in_turn({name: make_run(name) for name in feeders}, timing.repeats, on_run)
    return waiting


def waiting_share(batches: Iterable[Batch], max_s: float) -> float:
    """Returns the fraction of its time that a consumer waits for batches."""
    start = time.perf_counter()
    waited = sum(wait for _, wait in feed_consumer(batches, max_s))
    return waited / (time.perf_counter() - start)


def feed_consumer(batches: Iterable[Batch], max_s: float) -> Iterator[tuple[int, float]]:
    """Yield, for each batch, the number of samples and the seconds that a consumer of 10 ms per 256 samples waits.

    The consumer sleeps, as a program does while its GPU computes, so that readers have the CPU.
    """
    start = time.perf_counter()
    for _, labels in limit_time(batches, max_s):
        waited = time.perf_counter() - start
        time.sleep(CONSUMER_S * len(labels) / CONSUMER_SAMPLES)
        yield len(labels), waited
        start = time.perf_counter()


def _figure(
    reader: Candidate[ReadEpoch],
    feeder: Candidate[ReadEpoch],
    rates: Sequence[float],
    limits: Sequence[float],
    waiting: Sequence[float],
) -> Figure:
    setting = reader.setting
    return Figure(
        reader.name,
        setting.text,
        setting.documented,
        rates,
        limits,
        reader.tried,
        waiting,
        feeder.setting.text,
    )
