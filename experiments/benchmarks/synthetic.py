"""Synthetic data for benchmarks: codes, pixels, audio and photos, whose cost is that of real data.

Benchmarks need 600 MB that nobody has to download. The codes are random, since the speed does not depend on their
values. Decoding does depend on the content, so photos are noise with the spectrum of real photos and as many bits as
their JPEG files; `--images` uses real ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from walloc_cdl.data.dataset import SYNTHESIS_PATH
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic
from walloc_cdl.latents import FileEntry, Manifest, SplitSummary, code_histogram, write_manifest, write_shard
from walloc_cdl.linear.synthesis import NEIGHBORHOOD, LinearSynthesis, synthesis_to_bytes
from walloc_cdl.spec import LatentSpec

NUM_CLASSES = 10
DEFAULT_BYTES = 600_000_000
"""Size of the data of a benchmark: more than the caches of any processor hold."""
SHARD_BYTES = 128 * 2**20
PHOTO_SIZE = (375, 500)
"""Height and width of the median photo of ImageNet."""
PHOTO_QUALITY = 90
"""Quality of the JPEG files; with `SLOPE` it results in the 4 to 5 bits per pixel of ImageNet."""
SLOPE = 1.1
"""Amplitudes of synthetic photos fall with frequency to this power; those of real photos with about the first power."""


@dataclass(frozen=True)
class SyntheticSet:
    """A data set of seeded random bytes with a split `train` and ten classes."""

    num_bytes: int = DEFAULT_BYTES
    """Bytes of the codes."""
    latent_shape: tuple[int, ...] = (12, 32, 32)
    """(K, h, w), or (K, t) for audio."""
    stride: int = 8
    companding: str = "normal"
    num_shards: int = 1
    with_synthesis: bool = False
    """Whether it has a linear synthesis with random weights, which classifiers need."""
    seed: int = 0

    def __post_init__(self) -> None:
        sample_bytes = int(np.prod(self.latent_shape))
        if self.num_bytes < sample_bytes:
            raise CallError(f"num_bytes is {self.num_bytes}; it must be at least {sample_bytes}, one sample")

    @property
    def spec(self) -> LatentSpec:
        """The spec of codes of RGB images, or of mono audio."""
        kind, source_channels = ("image", 3) if len(self.latent_shape) == 3 else ("audio", 1)
        return LatentSpec("0" * 64, kind, source_channels, self.latent_shape[0], self.stride, 8, self.companding)

    @property
    def num_samples(self) -> int:
        """Number of samples that fit into `num_bytes`."""
        return self.num_bytes // int(np.prod(self.latent_shape))


def shards_for(num_bytes: int, threads: int) -> int:
    """Returns the number of shards of at most `SHARD_BYTES`, a multiple of the number of threads.

    Readers that assign whole shards to threads then have equal work in each.
    """
    return threads * -(-num_bytes // (threads * SHARD_BYTES))


def write_synthetic_set(folder: Path, synthetic: SyntheticSet) -> None:
    """Write the data set to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    spec, shape = synthetic.spec, synthetic.latent_shape
    low, high = spec.byte_range
    rng = np.random.default_rng(synthetic.seed)
    shards, counts = [], np.zeros(NUM_CLASSES, np.int64)
    histogram = np.zeros((shape[0], 256), np.int64)
    cuts = np.linspace(0, synthetic.num_samples, min(synthetic.num_shards, synthetic.num_samples) + 1).astype(int)
    for number, (start, stop) in enumerate(pairwise(cuts.tolist())):
        codes = rng.integers(low, high + 1, (stop - start, *shape), dtype=np.uint8)
        labels = rng.integers(0, NUM_CLASSES, stop - start)
        keys = [f"{row:07d}" for row in range(start, stop)]
        name = f"train-{number:05d}.safetensors"
        shards.append(write_shard(folder, name, spec=spec, split="train", codes=codes, labels=labels, keys=keys))
        histogram += code_histogram(codes, len(histogram))
        counts += np.bincount(labels, minlength=NUM_CLASSES)
    manifest = Manifest(
        spec=spec,
        latent_shape=shape,
        splits={"train": SplitSummary(synthetic.num_samples, counts.tolist())},
        shards=shards,
        files=_write_synthesis(folder, spec, rng) if synthetic.with_synthesis else {},
        histograms={"train": histogram},
        label_kind="class",
        class_names=[str(number) for number in range(NUM_CLASSES)],
        source={"name": "synthetic", "seed": synthetic.seed},
    )
    write_manifest(folder, manifest)


def _write_synthesis(folder: Path, spec: LatentSpec, rng: np.random.Generator) -> dict[str, FileEntry]:
    """Write a synthesis with random weights for each block size; returns its entry for the manifest."""
    bank = {}
    for block in range(1, spec.stride + 1):
        shape = (spec.source_channels * block**2, spec.latent_channels, NEIGHBORHOOD, NEIGHBORHOOD)
        weight = rng.normal(0, 0.002, shape).astype(np.float32)
        ones = np.ones(spec.source_channels, np.float32)
        bank[block] = LinearSynthesis(weight, np.zeros(shape[0], np.float32), 0 * ones, 0.25 * ones)
    content = synthesis_to_bytes(bank)
    path = folder / SYNTHESIS_PATH
    path.parent.mkdir()
    write_atomic(path, content)
    return {SYNTHESIS_PATH: FileEntry(len(content), hashlib.sha256(content).hexdigest())}


def synthetic_photo(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Generate noise uint8 (height, width, 3), whose spectrum and weak colors resemble those of photos."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = np.maximum(np.hypot(rows, columns), 1 / max(height, width)) ** -SLOPE
    noise = rng.normal(size=(3, height, width)).astype(np.float32)
    planes = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(height, width))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    luma, blue, red = planes * np.array([55, 14, 14])[:, None, None] + np.array([118, 0, 0])[:, None, None]
    rgb = np.stack([luma + 1.4 * red, luma - 0.34 * blue - 0.71 * red, luma + 1.77 * blue], axis=-1)
    return rgb.clip(0, 255).astype(np.uint8)


def write_photos(folder: Path, *, num: int | None = None, num_bytes: int | None = None, seed: int = 0) -> int:
    """Write JPEG files with the size and the bits per pixel of ImageNet to folders of ten classes.

    Each is a different crop of one of four large photos. Writes `num` files, or as many as take at least `num_bytes`;
    returns their number.
    """
    height, width = PHOTO_SIZE
    rng = np.random.default_rng(seed)
    large = [synthetic_photo(rng, 2 * height, 2 * width) for _ in range(4)]
    number = total = 0
    while number != num and (num_bytes is None or total < num_bytes):
        top, left = rng.integers(0, height), rng.integers(0, width)
        photo = large[number % len(large)][top : top + height, left : left + width]
        path = folder / f"class-{number % NUM_CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path, quality=PHOTO_QUALITY)
        number, total = number + 1, total + path.stat().st_size
    return number


def synthetic_signals(
    kind: str, channels: int, shape: tuple[int, ...], num_batches: int, seed: int
) -> list[torch.Tensor]:
    """Generate batches of `shape`, (B, C, H, W) uint8 or (B, C, T) int16: shifted copies of eight signals."""
    rng = np.random.default_rng(seed)
    if kind == "image":
        photos = [synthetic_photo(rng, *shape[2:]).transpose(2, 0, 1) for _ in range(8)]
        planes = [np.resize(photo, (channels, *shape[2:])) for photo in photos]
    else:
        walks = np.cumsum(rng.normal(0, 1, (8, channels, shape[2])), axis=-1)
        loud = walks / np.abs(walks).max(axis=-1, keepdims=True) * 20_000
        planes = list((loud + rng.normal(0, 500, loud.shape)).astype(np.int16))
    batches = []
    for _ in range(num_batches):
        shifts = rng.integers(0, shape[-1], shape[0])
        signals = [np.roll(planes[number % len(planes)], int(shift), -1) for number, shift in enumerate(shifts)]
        batches.append(torch.from_numpy(np.stack(signals)))
    return batches
