"""Measures torch's DataLoader over a data set of latents, and over the data sets that torch makes of it.

    python -m experiments.torch_loader_speed --megabytes 600 --repeats 9

All loaders have torch's default collate function. They are compared, in turns, with a loader of whole batches of
`LatentDataset.gather` that leaves them as they are. docs/performance.md has figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset, RandomSampler, Subset, random_split

from experiments.benchmarks.machine import describe_machine, machine_text
from experiments.benchmarks.synthetic import SyntheticSet, write_synthetic_set
from experiments.benchmarks.timing import Run, Spread, limit_time, shares, time_in_turn
from experiments.peers.peer import worker_options
from walloc_cdl.data import LatentBatch, LatentDataset, LatentLoader, open_latents
from walloc_cdl.threads import torch_threads

BATCH_SIZE = 64
REFERENCE = "gather, not collated"
ITEM_BY_ITEM = "ConcatDataset, item by item"


class GatheredBatches(Dataset):
    """Gives whole batches to a DataLoader whose collate function is `unchanged`."""

    def __init__(self, dataset: LatentDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> LatentBatch:
        """Returns the batch of these samples."""
        return self.dataset.gather(indices)


def unchanged(batch: LatentBatch) -> LatentBatch:
    """Returns the batch as it is."""
    return batch


def make_loaders(dataset: LatentDataset, batch_size: int, num_workers: int) -> dict[str, Any]:
    """Returns the loaders by what they read; all shuffle."""
    options = worker_options(num_workers)
    count = len(dataset)
    made: dict[str, Dataset] = {
        "LatentDataset": dataset,
        "Subset": Subset(dataset, range(count)),
        "random_split": random_split(dataset, [count, 0])[0],
        "slice": dataset[:],
        ITEM_BY_ITEM: ConcatDataset([dataset[: count // 2], dataset[count // 2 :]]),
    }
    loaders: dict[str, Any] = {
        REFERENCE: DataLoader(GatheredBatches(dataset), batch_size, shuffle=True, collate_fn=unchanged, **options)
    }
    loaders |= {name: DataLoader(each, batch_size, shuffle=True, **options) for name, each in made.items()}
    lists = BatchSampler(RandomSampler(dataset), batch_size, drop_last=False)
    loaders["BatchSampler"] = DataLoader(dataset, batch_sampler=lists, **options)
    loaders["BatchSampler as sampler"] = DataLoader(dataset, batch_size=None, sampler=lists, **options)
    if not num_workers:
        loaders["LatentLoader"] = LatentLoader(dataset, batch_size, shuffle=True, drop_last=False)
    return loaders


def measure_loaders(num_bytes: int, repeats: int, max_s: float, num_workers: int, batch_size: int) -> dict[str, Any]:
    """Returns rates in samples per second and shares of the reference, by loader, as plain values."""

    def make_run(loader: Any) -> Run:
        return lambda repeat: sum(len(labels) for _, labels in limit_time(loader, max_s))

    with tempfile.TemporaryDirectory(prefix="cdl-torch-loaders-") as parent, torch_threads(1):
        folder = Path(parent) / "set"
        write_synthetic_set(folder, SyntheticSet(num_bytes))
        loaders = make_loaders(open_latents(folder), batch_size, num_workers)
        runs: dict[str, Callable[[int], float]] = {name: make_run(loader) for name, loader in loaders.items()}
        time_in_turn(runs, 1)  # warms up
        rates = time_in_turn(runs, repeats)
    return {
        "bytes": num_bytes,
        "batch_size": batch_size,
        "workers": num_workers,
        "repeats": repeats,
        "machine": describe_machine(),
        "loaders": {
            name: {"rate": asdict(Spread.of(each)), "share": asdict(shares(each, rates[REFERENCE]))}
            for name, each in rates.items()
        },
    }


def as_table(result: dict[str, Any]) -> str:
    """Format the result of `measure_loaders` as a table."""
    heading = f"batches of {result['batch_size']}, {result['workers']} workers; medians of {result['repeats']} in turn"
    lines = [
        f"{name:28}{figures['rate']['median']:12,.0f} samples/s{figures['share']['median']:8.2f} of the first"
        for name, figures in result["loaders"].items()
    ]
    return "\n".join([heading, *lines, f"machine: {machine_text(result['machine'])}"])


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write the JSON."""
    title = str(__doc__).splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m experiments.torch_loader_speed", description=title)
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="time limit of one run")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    num_bytes = options.megabytes * 1_000_000
    result = measure_loaders(num_bytes, options.repeats, options.seconds, options.workers, options.batch_size)
    print(as_table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
