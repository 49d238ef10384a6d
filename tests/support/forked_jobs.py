"""Jobs of `prepare` in forks of one warm process: `python -m tests.support.forked_jobs SOURCE FOLDER SEED KILLS`.

With `stream` as a further argument the images of the folder SOURCE come as a stream.

A fork starts in milliseconds where Python and torch take seconds, so a job can be killed a hundred times. It is
killed at a moment drawn from the whole duration of an undisturbed run, or soon after the phase that was hit least has
begun, and the next fork goes on with what it left, until a job is done; then another one begins, until all kills are
made and every phase was hit. Reports the kills, by the phase they hit, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process with threads cannot be forked

import pandas  # noqa: F401 - pyarrow imports it when it needs it, in every fork anew
import torch

from datasets_prep import IterableSource, PrepareConfig, open_source, prepare
from datasets_prep.decode.images import load_pixels
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.latents import load_manifest, verify

CONFIG = {"size": 64, "shard_samples": 5, "drop_duplicates": True}
WORKERS = (0, 0, 0, 0, 0, 0, 0, 2)
"""Of one attempt after the other: starting workers takes longer than all the rest, and they are tested besides."""

MAX_KILLS = 12
"""Of one job, so that there are several, and the beginning of each."""

PHASES = ("plan", "decoding", "shard", "record", "fit", "copies")
"""What must be hit: some last a millisecond, and a busy machine stretches them unevenly, so chance alone may miss."""


def stream_of(folder: Path) -> IterableSource:
    """The images below a folder that has splits, as they come."""
    splits = {split: sorted((folder / split).rglob("*.png")) for split in ("train", "test")}
    rows = {split: [(path.read_bytes(), path.parent.name) for path in paths] for split, paths in splits.items()}
    return IterableSource(rows, name=folder.name, class_names=["cat", "dog"])


def start(source: Path, out: Path, workers: int, *, streaming: bool) -> int:
    """Fork a process that makes the data set; its process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        codec = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
        opened = stream_of(source) if streaming else open_source(str(source))
        prepare(opened, codec, out, PrepareConfig(**CONFIG, workers=workers))
        code = 0
    finally:
        os._exit(code)


def phase(out: Path, num_shards: int) -> str:
    """What a job was doing when it was killed, by what it has left."""
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    if "manifest.json" in files:
        return "after the manifest"
    if "_work/plan.json" not in files:
        return "plan"
    num_records = sum(name.startswith("_work/t") and name.endswith(".json") for name in files)
    if num_records == num_shards:
        return "copies" if "ledger.parquet" in files else "ledger" if any("ledger" in name for name in files) else "fit"
    temporary = next((name for name in files if name.endswith(".tmp")), "decoding")
    return "shard" if ".safetensors" in temporary else "record" if "_work/" in temporary else temporary


def main(source: Path, folder: Path, seed: int, num_kills: int, *, streaming: bool = False) -> dict[str, object]:
    """Run and kill until there were so many kills, every phase was hit, and the last job is done."""
    torch.set_num_threads(1)
    load_pixels(next(path for path in sorted(source.rglob("*.png")) if path.stat().st_size > 100), 64, 3)  # with numba
    for name in ("first", "undisturbed"):  # the first finds no file in the system's cache
        began = time.monotonic()
        assert ends_within(start(source, folder / name, 0, streaming=streaming), 60)
        duration_s = time.monotonic() - began
    expected, draw = contents(folder / "undisturbed"), random.Random(seed)
    num_shards = len(load_manifest(folder / "undisturbed").shards)
    phases: Counter[str] = Counter()
    num_jobs = num_attempts = 0
    while phases.total() < num_kills or (phases.total() < 10 * num_kills and not all(phases[name] for name in PHASES)):
        out, num_jobs = folder / f"job{num_jobs}", num_jobs + 1
        for attempt in range(MAX_KILLS + 1):
            workers = WORKERS[num_attempts % len(WORKERS)]
            pid, num_attempts = start(source, out, workers, streaming=streaming), num_attempts + 1
            limit_s = duration_s * (3 if workers else 1) * draw.random() ** 2  # the beginning has most phases
            aim = min(PHASES, key=lambda name: phases[name]) if attempt % 3 == 1 else None
            if aim and attempt < MAX_KILLS:
                wait_for(aim, out, num_shards, limit_s)
                limit_s = 0.003 * draw.random()
            if ends_within(pid, limit_s if attempt < MAX_KILLS else 300):
                break
            phases[phase(out, num_shards)] += 1
        assert contents(out) == expected, out
        assert verify(out, full=True).problems == [], out
        assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))], out
    missed = [name for name in PHASES if not phases[name]]
    return {"num_jobs": num_jobs, "duration_s": duration_s, "phases": dict(phases), "missed": missed}


def wait_for(aim: str, out: Path, num_shards: int, limit_s: float) -> None:
    """Return as soon as a job is in the phase `aim`, or when the time is over."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # what is looked at moves
            if phase(out, num_shards) == aim:
                return


def ends_within(pid: int, limit_s: float) -> bool:
    """Whether a process comes to its end, which must be a success, before it is killed."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if (ended := os.waitpid(pid, os.WNOHANG))[0]:
            assert ended[1] == 0
            return True
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    settings = int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), *settings, streaming="stream" in sys.argv[5:])))
