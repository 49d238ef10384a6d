"""How long does a large data set take to open, and to give its first samples, and how much memory does that take?

    python -m experiments.opening_speed --samples 10000000 --shards 1000

Writes a made-up data set of one code a sample to a temporary folder. Fresh processes, which have imported torch and
this package before, take each step in turn. docs/performance.md has figures.
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
    """What one step took; bytes are 0 where the kernel keeps no account of them."""

    name: str
    seconds: float
    kept_bytes: float
    """Memory of its own that the process has more than before."""
    peak_bytes: float
    """The most that it had more, files that are mapped included."""


def take_steps(folder: Path | str) -> list[Step]:
    """Open the data set's train split and draw from it, in this process."""
    steps = []

    def take(name: str, work: Callable[[], Any]) -> Any:
        if RESET.exists():
            RESET.write_text("5")  # the peak begins anew
        before, begin = _memory(), time.perf_counter()
        made = work()
        seconds, after = time.perf_counter() - begin, _memory()
        kept, peak = after["RssAnon"] - before["RssAnon"], after["VmHWM"] - before["VmRSS"]
        steps.append(Step(name, seconds, max(0, kept), max(0, peak)))
        return made

    dataset = take("open_latents", lambda: open_latents(folder))
    spread = np.linspace(0, len(dataset) - 1, BATCH_SIZE).astype(np.int64)
    take("dataset[i]", lambda: dataset[len(dataset) // 2])
    take(f"dataset.gather of {BATCH_SIZE}", lambda: dataset.gather(spread))
    loader = LatentLoader(open_latents(folder), BATCH_SIZE)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        batches = iter(loader)
        take(f"first shuffled batch, epoch {epoch}", lambda batches=batches: next(batches))
        batches.close()
    return steps


def measure_opening(num_samples: int, num_shards: int, repeats: int) -> dict[str, Any]:
    """The medians of so many fresh processes, as plain values."""
    with tempfile.TemporaryDirectory(prefix="cdl-opening-") as parent:
        folder = Path(parent) / "set"
        write_synthetic_set(folder, SyntheticSet(num_samples, (1, 1, 1), num_shards=num_shards))
        command = [sys.executable, "-m", "experiments.opening_speed", "--take-steps", str(folder)]
        answers = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repeats)]
    runs = [[Step(**step) for step in json.loads(answer.stdout)] for answer in answers]
    return {
        "samples": num_samples,
        "shards": num_shards,
        "processes": repeats,
        "machine": describe_machine(),
        "steps": [asdict(_median(same)) for same in zip(*runs, strict=True)],
    }


def as_table(result: dict[str, Any]) -> str:
    """What `measure_opening` gives, for people."""
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
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--take-steps", metavar="FOLDER", help="what each process does, with a data set that is there")
    chosen = parser.parse_args(arguments)
    if chosen.take_steps:
        print(json.dumps([asdict(step) for step in take_steps(chosen.take_steps)]))
        return 0
    result = measure_opening(chosen.samples, chosen.shards, chosen.processes)
    print(as_table(result))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return 0


def _memory() -> dict[str, int]:
    """Bytes of this process, by the kernel's account."""
    names = ("VmRSS", "VmHWM", "RssAnon")
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    fields = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(fields[name].split()[0]) if name in fields else 0 for name in names}


def _median(same: tuple[Step, ...]) -> Step:
    """Of each figure of a step."""
    figures = {name: median(getattr(step, name) for step in same) for name in ("seconds", "kept_bytes", "peak_bytes")}
    return Step(same[0].name, **figures)


if __name__ == "__main__":
    sys.exit(main())
