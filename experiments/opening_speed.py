"""Measures the time and memory that it takes to open a large data set and to read its first samples.

    python -m experiments.opening_speed --samples 10000000 --shards 1000

Writes a synthetic data set with one code per sample to a temporary folder. Fresh processes, which have imported torch
and this package before, measure one step after the other. docs/performance.md has figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.benchmarks.machine import describe_machine, machine_text
from experiments.benchmarks.synthetic import SyntheticSet, write_synthetic_set
from walloc_cdl.data import LatentLoader, open_latents

BATCH_SIZE = 256
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Step:
    """Time and memory of one step; bytes are 0 if the kernel does not report them."""

    name: str
    seconds: float
    kept_bytes: float
    """Increase of the process's anonymous memory over the step."""
    peak_bytes: float
    """Largest increase of its memory during the step, including mapped files."""


def measure_steps(folder: Path | str) -> list[Step]:
    """Open the data set's train split and read from it, in this process."""
    steps = []

    def measure(name: str, work: Callable[[], Any]) -> Any:
        if RESET.exists():
            RESET.write_text("5")  # resets the peak
        before, start = _memory(), time.perf_counter()
        result = work()
        seconds, after = time.perf_counter() - start, _memory()
        kept, peak = after["RssAnon"] - before["RssAnon"], after["VmHWM"] - before["VmRSS"]
        steps.append(Step(name, seconds, max(0, kept), max(0, peak)))
        return result

    dataset = measure("open_latents", lambda: open_latents(folder))
    indices = np.linspace(0, len(dataset) - 1, BATCH_SIZE).astype(np.int64)
    measure("dataset[i]", lambda: dataset[len(dataset) // 2])
    measure(f"dataset.gather of {BATCH_SIZE}", lambda: dataset.gather(indices))
    loader = LatentLoader(open_latents(folder), BATCH_SIZE)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        batches = iter(loader)
        measure(f"first shuffled batch, epoch {epoch}", lambda batches=batches: next(batches))
        batches.close()
    return steps


def measure_opening(num_samples: int, num_shards: int, repeats: int) -> dict[str, Any]:
    """Returns the medians over `repeats` fresh processes, as plain values."""
    with tempfile.TemporaryDirectory(prefix="cdl-opening-") as parent:
        folder = Path(parent) / "set"
        write_synthetic_set(folder, SyntheticSet(num_samples, (1, 1, 1), num_shards=num_shards))
        command = [sys.executable, "-m", "experiments.opening_speed", "--measure-steps", str(folder)]
        answers = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repeats)]
    runs = [[Step(**step) for step in json.loads(answer.stdout)] for answer in answers]
    return {
        "samples": num_samples,
        "shards": num_shards,
        "processes": repeats,
        "machine": describe_machine(),
        "steps": [asdict(_median(steps)) for steps in zip(*runs, strict=True)],
    }


def as_table(result: dict[str, Any]) -> str:
    """Format the result of `measure_opening` as a table."""
    lines = [
        f"{step['name']:32}{1e3 * step['seconds']:9.1f} ms{step['kept_bytes'] / 1e6:9.1f} MB kept"
        f"{step['peak_bytes'] / 1e6:9.1f} MB at the peak"
        for step in result["steps"]
    ]
    work = f"{result['samples']:,} samples in {result['shards']:,} shards"
    heading = f"{work}; medians of {result['processes']} processes"
    return "\n".join([heading, *lines, f"machine: {machine_text(result['machine'])}"])


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m experiments.opening_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--measure-steps", metavar="FOLDER", help="used by the processes: measure this data set")
    options = parser.parse_args(arguments)
    if options.measure_steps:
        print(json.dumps([asdict(step) for step in measure_steps(options.measure_steps)]))
        return 0
    result = measure_opening(options.samples, options.shards, options.processes)
    print(as_table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return 0


def _memory() -> dict[str, int]:
    """Returns the memory of this process in bytes, as the kernel reports it."""
    names = ("VmRSS", "VmHWM", "RssAnon")
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    fields = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(fields[name].split()[0]) if name in fields else 0 for name in names}


def _median(steps: tuple[Step, ...]) -> Step:
    """Returns the medians of the figures of a step over processes."""
    figures = {name: median(getattr(step, name) for step in steps) for name in ("seconds", "kept_bytes", "peak_bytes")}
    return Step(steps[0].name, **figures)


if __name__ == "__main__":
    sys.exit(main())
