"""Small data sets for tests, with the arrays that they must give back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SplitSummary,
    code_histogram,
    write_manifest,
    write_shard,
)
from walloc_cdl.spec import LatentSpec

CLASS_NAMES = ["coat", "dress", "hat"]


def make_spec(channels: int = 2, kind: str = "image", **changes) -> LatentSpec:
    fields = {"source_channels": 1, "stride": 8, "bits": 8, "companding": "normal"} | changes
    if kind == "audio":
        fields |= {"sample_rate": 8000}
    return LatentSpec("ab" * 32, kind, latent_channels=channels, **fields)


@dataclass
class Samples:
    codes: np.ndarray
    labels: np.ndarray | None
    keys: list[str]


def draw_samples(rng, count: int, shape=(2, 2, 3), *, labeled: bool = True) -> Samples:
    codes = rng.integers(1, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(-1, len(CLASS_NAMES), count) if labeled else None
    return Samples(codes, labels, [f"{'é' * (row % 3)}photo {row}.jpg" for row in range(count)])


def write_small_set(
    folder: Path,
    splits: dict[str, Sequence[int]],
    *,
    shape=(2, 2, 3),
    labeled: bool = True,
    seed: int = 0,
    files: dict[str, bytes] | None = None,
) -> dict[str, Samples]:
    """Write a data set with shards of the given numbers of samples; returns each split's content."""
    rng = np.random.default_rng(seed)
    spec = make_spec(shape[0], "image" if len(shape) == 3 else "audio")
    content, entries = {}, []
    for split, sizes in splits.items():
        samples = draw_samples(rng, sum(sizes), shape, labeled=labeled)
        for number, start in enumerate(np.cumsum([0, *sizes])[:-1]):
            rows = slice(start, start + sizes[number])
            entries.append(
                write_shard(
                    folder,
                    f"{split}-{number:05d}.safetensors",
                    spec=spec,
                    split=split,
                    codes=samples.codes[rows],
                    labels=samples.labels[rows] if labeled else None,
                    keys=samples.keys[rows],
                )
            )
        content[split] = samples
    for name, data in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_manifest(
        folder,
        Manifest(
            spec=spec,
            latent_shape=shape,
            splits={split: summarize(samples) for split, samples in content.items()},
            shards=entries,
            files={name: FileEntry(len(data), sha256_hex(data)) for name, data in (files or {}).items()},
            histograms={split: code_histogram(samples.codes, shape[0]) for split, samples in content.items()},
            label_kind="class" if labeled else "none",
            class_names=CLASS_NAMES if labeled else None,
            source={"name": "test"},
        ),
    )
    return content


def summarize(samples: Samples) -> SplitSummary:
    if samples.labels is None:
        return SplitSummary(len(samples.codes))
    known = samples.labels[samples.labels >= 0]
    return SplitSummary(len(samples.codes), np.bincount(known, minlength=len(CLASS_NAMES)).tolist())
