"""Measures LatentLoader on rows of bit planes and on prefixes of them, beside byte codes of the same bytes.

    python -m experiments.prefix_loader_speed --megabytes 600 --repeats 9

Batches are shuffled. The loaders take turns. docs/performance.md has figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.machine import describe_machine, machine_text
from experiments.benchmarks.synthetic import SyntheticSet, shards_for, write_synthetic_set
from experiments.benchmarks.timing import Run, limit_time, shares, time_in_turn
from walloc_cdl.codec import load_codec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.files import write_atomic
from walloc_cdl.kernels.cpu.planes import row_histogram
from walloc_cdl.latents import LabelSpec, Manifest, SampleLayout, SplitSummary, write_manifest, write_shard
from walloc_cdl.planes.rows import row_bytes
from walloc_cdl.threads import torch_threads

BATCH_SIZE = 256
GRID = (32, 32)
NUM_PLANES = 96
"""Rows of 12,288 bytes, as many as 12 × 32 × 32 byte codes take."""
BYTE_CODES = "byte codes"


def write_random_rows(folder: Path, num_bytes: int, seed: int = 0) -> None:
    """Write a data set of random rows of the codec `rgb`."""
    spec = load_codec("rgb").spec.with_planes(NUM_PLANES)
    layout = SampleLayout(spec, (spec.latent_channels, *GRID), LabelSpec("class", 10))
    size = row_bytes(spec, GRID)
    count = num_bytes // size
    rng = np.random.default_rng(seed)
    shards, histogram, classes = [], np.zeros((spec.latent_channels, 256), np.int64), np.zeros(10, np.int64)
    folder.mkdir()
    cuts = np.linspace(0, count, shards_for(num_bytes, 1) + 1).astype(int)
    for number, (start, stop) in enumerate(pairwise(cuts.tolist())):
        rows = rng.integers(0, 256, (stop - start, size), np.uint8)
        labels = rng.integers(0, 10, stop - start)
        keys = [f"{row:07d}" for row in range(start, stop)]
        name = f"train-{number:05d}.safetensors"
        shard = {"spec": spec, "split": "train", "codes": rows, "labels": labels, "keys": keys, "layout": layout}
        shards.append(write_shard(folder, name, **shard))
        histogram += row_histogram(rows, spec.planes, GRID)
        classes += np.bincount(labels, minlength=10)
    manifest = Manifest(
        spec=spec,
        latent_shape=layout.latent_shape,
        splits={"train": SplitSummary(count, classes.tolist())},
        shards=shards,
        files={},
        histograms={"train": histogram},
        label_kind="class",
        class_names=[str(number) for number in range(10)],
        source={"name": "synthetic", "seed": seed},
    )
    write_manifest(folder, manifest)


def measure(num_bytes: int, repeats: int, max_s: float) -> dict[str, Any]:
    """Return rates in samples per second and shares of those of byte codes, by loader, as plain values."""

    def make_run(loader: LatentLoader) -> Run:
        return lambda repeat: sum(len(labels) for _, labels in limit_time(loader, max_s))

    with tempfile.TemporaryDirectory(prefix="cdl-prefixes-") as parent, torch_threads(1):
        bytes_folder, rows_folder = Path(parent) / "bytes", Path(parent) / "rows"
        write_synthetic_set(bytes_folder, SyntheticSet(num_bytes, num_shards=shards_for(num_bytes, 1)))
        write_random_rows(rows_folder, num_bytes)
        sizes = [12_288, 6_144, 3_072]
        datasets = {BYTE_CODES: open_latents(bytes_folder)}
        datasets |= {f"rows, {size:,} bytes read": open_latents(rows_folder, bytes=size) for size in sizes}
        runs = {
            name: make_run(LatentLoader(dataset, BATCH_SIZE, device="cpu", shuffle=True, residency="mmap"))
            for name, dataset in datasets.items()
        }
        time_in_turn(runs, 1)  # warms up
        rates = time_in_turn(runs, repeats)
    return {
        "bytes": num_bytes,
        "repeats": repeats,
        "machine": describe_machine(),
        "loaders": {
            name: {"samples_per_s": float(np.median(each)), "share": shares(each, rates[BYTE_CODES]).median}
            for name, each in rates.items()
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write the JSON."""
    title = str(__doc__).splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m experiments.prefix_loader_speed", description=title)
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="time limit of one run")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    result = measure(options.megabytes * 1_000_000, options.repeats, options.seconds)
    for name, figures in result["loaders"].items():
        print(f"{name:26}{figures['samples_per_s']:12,.0f} samples/s{figures['share']:8.2f} of byte codes")
    print(f"machine: {machine_text(result['machine'])}")
    if options.json:
        write_atomic(options.json, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
