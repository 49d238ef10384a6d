"""How many samples a second does `LatentLoader` deliver, beside `torch.index_select` on the same data?

`index_select` of shuffled rows of one memory-mapped tensor is the floor under any loader: it does the
copying and nothing else.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from walloc_cdl.data import LatentDataset, LatentLoader, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import Manifest, SplitSummary, code_histogram, write_manifest, write_shard
from walloc_cdl.spec import LatentSpec


@dataclass(frozen=True)
class LoadBenchmark:
    """Settings of `measure_loading`."""

    num_bytes: int = 600_000_000
    """Of codes."""
    latent_shape: tuple[int, ...] = (12, 32, 32)
    """(K, h, w), or (K, t) of audio."""
    shard_bytes: int = 128 * 2**20
    batch_size: int = 256
    repeats: int = 5
    """Passes over the data for each way of reading; the median counts."""
    seed: int = 0

    def __post_init__(self) -> None:
        sample_bytes = int(np.prod(self.latent_shape))
        for name, least in (("num_bytes", sample_bytes), ("batch_size", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least {least}")


def measure_loading(
    *,
    num_bytes: int = 600_000_000,
    batch_size: int = 256,
    repeats: int = 5,
    folder: Path | str | None = None,
) -> dict[str, object]:
    """Write a synthetic data set to a temporary folder (below `folder`) and time shuffled epochs on the CPU.

    Returns the median samples/s of the loader with residency `mmap` and `ram` and of `index_select` on the
    mapped data, with all of torch's threads and with one, and what they were measured with. The ways take
    turns, so that a noisy machine is unfair to all alike; the loader's share is of the faster `index_select`,
    since a team of threads collapses where another program holds a core.
    """
    config = LoadBenchmark(num_bytes=num_bytes, batch_size=batch_size, repeats=repeats)
    with tempfile.TemporaryDirectory(dir=folder) as parent:
        write_synthetic(Path(parent), config)
        dataset = open_latents(parent)
        rates = _alternate(_readers(dataset, config), len(dataset), config)
    floor = max(rates["index_select"], rates["index_select_1_thread"])
    return {
        **{f"{name}_samples_per_s": round(rate) for name, rate in rates.items()},
        **{f"{name}_share_of_index_select": round(rates[name] / floor, 3) for name in ("mmap", "ram")},
        "num_samples": len(dataset),
        "num_bytes": num_bytes,
        "batch_size": batch_size,
        "repeats": repeats,
        "num_threads": torch.get_num_threads(),
        "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch": torch.__version__,
    }


def write_synthetic(folder: Path, config: LoadBenchmark) -> None:
    """A data set of seeded random bytes, one split `train`, ten classes."""
    kind, source_channels = ("image", 3) if len(config.latent_shape) == 3 else ("audio", 1)
    spec = LatentSpec("0" * 64, kind, source_channels, config.latent_shape[0], 8, 8, "normal")
    sample_bytes = int(np.prod(config.latent_shape))
    num_samples, shard_samples = config.num_bytes // sample_bytes, config.shard_bytes // sample_bytes
    rng = np.random.default_rng(config.seed)
    shards, counts = [], np.zeros(10, np.int64)
    histogram = np.zeros((config.latent_shape[0], 256), np.int64)
    for number, start in enumerate(range(0, num_samples, shard_samples)):
        count = min(shard_samples, num_samples - start)
        codes = rng.integers(1, 256, (count, *config.latent_shape), dtype=np.uint8)
        labels = rng.integers(0, 10, count)
        keys = [f"{start + row:07d}" for row in range(count)]
        name = f"train-{number:05d}.safetensors"
        shards.append(write_shard(folder, name, spec=spec, split="train", codes=codes, labels=labels, keys=keys))
        histogram += code_histogram(codes, len(histogram))
        counts += np.bincount(labels, minlength=10)
    manifest = Manifest(
        spec=spec,
        latent_shape=config.latent_shape,
        splits={"train": SplitSummary(num_samples, counts.tolist())},
        shards=shards,
        files={},
        histograms={"train": histogram},
        label_kind="class",
        class_names=[str(number) for number in range(10)],
        source={"name": "synthetic", "seed": config.seed},
    )
    write_manifest(folder, manifest)


def _readers(dataset: LatentDataset, config: LoadBenchmark) -> dict[str, Callable[[int], None]]:
    """The ways of reading one epoch, by name; each takes the epoch's number."""
    loaders = {
        name: LatentLoader(dataset, config.batch_size, residency=name, seed=config.seed, drop_last=False)
        for name in ("mmap", "ram")
    }
    mapped = [torch.from_numpy(dataset.shard_codes(number)) for number in range(len(dataset.shard_starts) - 1)]

    def read(loader: LatentLoader, epoch: int) -> None:
        loader.set_epoch(epoch)
        for _ in loader:
            pass

    def select(epoch: int) -> None:
        # Shuffled within each shard, one after the other: `index_select` takes one tensor.
        rng = np.random.default_rng(epoch)
        for codes in mapped:
            for rows in torch.from_numpy(rng.permutation(len(codes))).split(config.batch_size):
                codes.index_select(0, rows)

    def select_alone(epoch: int) -> None:
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            select(epoch)
        finally:
            torch.set_num_threads(num_threads)

    return {
        "index_select": select,
        "index_select_1_thread": select_alone,
        "mmap": lambda epoch: read(loaders["mmap"], epoch),
        "ram": lambda epoch: read(loaders["ram"], epoch),
    }


def _alternate(readers: dict[str, Callable[[int], None]], num_samples: int, config: LoadBenchmark) -> dict[str, float]:
    """Median samples/s of each reader over interleaved epochs, after one of each that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for epoch in range(config.repeats + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            read(epoch)
            if epoch:
                rates[name].append(num_samples / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}
