"""Jobs of `prepare` in forks of one warm process: `python tests/faults/forked_jobs.py SOURCE FOLDER SEED KILLS`.

A fork starts in milliseconds where Python and torch take seconds, so a job can be killed a hundred times. It is
killed at a moment drawn from the whole duration of an undisturbed run, and the next fork goes on with what it left,
until a job is done; then another one begins, until all kills are made. Reports them, by the phase they hit, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process with threads cannot be forked

import torch
from commands import contents

import datasets_prep.finish  # noqa: F401 - warm
from datasets_prep import PrepareConfig, open_source, prepare
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.latents import verify

CONFIG = {"size": 64, "shard_samples": 5, "drop_duplicates": True}
WORKERS = (0, 0, 0, 0, 0, 0, 0, 2)
"""Of one attempt after the other: starting workers takes longer than all the rest, and they are tested besides."""


def start(source: Path, out: Path, workers: int) -> int:
    """Fork a process that makes the data set; its process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        codec = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
        prepare(open_source(str(source)), codec, out, PrepareConfig(**CONFIG, workers=workers))
        code = 0
    finally:
        os._exit(code)


def phase(out: Path) -> str:
    """What a job was doing when it was killed, by what it has left."""
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    temporary = next((name.rpartition("/")[2] for name in files if name.endswith(".tmp")), "")
    if "manifest.json" in files:
        return "after the manifest"
    if "_work/plan.json" not in files:
        return "before the plan"
    if "ledger.parquet" in files or any(name.startswith("codec/") for name in files):
        return "finish"
    if temporary.startswith(".ledger"):
        return "ledger"
    if ".safetensors" in temporary:
        return "shard"
    return "record" if temporary else "between"


def main(source: Path, folder: Path, seed: int, num_kills: int) -> dict[str, object]:
    """Run and kill until there were so many kills and the last job is done."""
    torch.set_num_threads(1)
    began = time.monotonic()
    require_done(start(source, folder / "undisturbed", 0))
    duration_s = time.monotonic() - began
    expected, draw = contents(folder / "undisturbed"), random.Random(seed)
    phases: Counter[str] = Counter()
    num_jobs = num_attempts = 0
    while phases.total() < num_kills:
        out, num_jobs = folder / f"job{num_jobs}", num_jobs + 1
        while True:
            workers = WORKERS[num_attempts % len(WORKERS)]
            pid, num_attempts = start(source, out, workers), num_attempts + 1
            time.sleep(draw.uniform(0, duration_s + (0.5 if workers else 0)))
            os.kill(pid, signal.SIGKILL)  # a fork that has ended waits to be asked for its status
            if os.waitpid(pid, 0)[1] == 0:
                break
            phases[phase(out)] += 1
        assert contents(out) == expected, out
        assert verify(out, full=True).problems == [], out
        assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))], out
    return {"num_jobs": num_jobs, "duration_s": duration_s, "phases": dict(phases)}


def require_done(pid: int) -> None:
    """Wait for a process, which must succeed."""
    assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
