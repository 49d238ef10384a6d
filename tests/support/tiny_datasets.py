"""Tiny data sets, written with the real writer."""

import hashlib
from pathlib import Path

import numpy as np

from walloc_cdl.files import write_atomic
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SplitSummary,
    code_histogram,
    write_manifest,
    write_shard,
)
from walloc_cdl.linear.synthesis import NEIGHBORHOOD, LinearSynthesis, synthesis_to_bytes
from walloc_cdl.spec import LatentSpec


def make_spec(latent_channels=12, source_channels=3, stride=8, companding="normal", codec_id="c" * 64) -> LatentSpec:
    return LatentSpec(codec_id, "image", source_channels, latent_channels, stride, 8, companding)


def random_bank(spec: LatentSpec, seed: int = 0) -> dict[int, LinearSynthesis]:
    """A synthesis for every block size, of random weights."""
    rng = np.random.default_rng(seed)

    def layer(block: int) -> LinearSynthesis:
        rows = spec.source_channels * block**2
        return LinearSynthesis(
            weight=rng.normal(0, 0.002, (rows, spec.latent_channels, NEIGHBORHOOD, NEIGHBORHOOD)).astype(np.float32),
            bias=rng.normal(0, 0.1, rows).astype(np.float32),
            pixel_mean=rng.uniform(-0.2, 0.2, spec.source_channels).astype(np.float32),
            pixel_std=rng.uniform(0.1, 0.3, spec.source_channels).astype(np.float32),
        )

    return {block: layer(block) for block in range(1, spec.stride + 1)}


def write_dataset(
    folder: Path, spec: LatentSpec, splits, class_names=("cat", "dog"), bank=None, target_names=None
) -> Path:
    """A data set of `splits`: {name: (codes uint8 (N, K, h, w), labels or None)}.

    Labels are int64 (N,) or uint8 (N, L) of classes, or float32 (N,) or (N, T) of `target_names`.
    """
    class_names = None if target_names else class_names
    label_kind = "none" if class_names is None else "class"
    (folder / "codec").mkdir(parents=True)
    content = synthesis_to_bytes(random_bank(spec) if bank is None else bank)
    write_atomic(folder / "codec" / "synthesis.safetensors", content)
    shards, summaries, histograms = [], {}, {}
    for name, (codes, labels) in splits.items():
        keys = [f"{name}/{row}" for row in range(len(codes))]
        shards.append(
            write_shard(
                folder, f"{name}-00000.safetensors", spec=spec, split=name, codes=codes, labels=labels, keys=keys
            )
        )
        counts = None
        if class_names is not None:
            counts = [0 if labels is None else int((labels == label).sum()) for label in range(len(class_names))]
            if labels is not None and labels.ndim == 2:
                counts, label_kind = labels.sum(0, dtype=int).tolist(), "multilabel"
        summaries[name] = SplitSummary(len(codes), counts)
        histograms[name] = code_histogram(codes, spec.latent_channels)
    manifest = Manifest(
        spec=spec,
        latent_shape=tuple(codes.shape[1:]),
        splits=summaries,
        shards=shards,
        files={"codec/synthesis.safetensors": FileEntry(len(content), hashlib.sha256(content).hexdigest())},
        histograms=histograms,
        label_kind="regression" if target_names else label_kind,
        class_names=None if class_names is None else list(class_names),
        target_names=None if target_names is None else list(target_names),
    )
    write_manifest(folder, manifest)
    return folder


def random_codes(spec: LatentSpec, count: int, side: int, seed: int = 0) -> np.ndarray:
    low, high = spec.byte_range
    return np.random.default_rng(seed).integers(low, high + 1, (count, spec.latent_channels, side, side), np.uint8)


def random_split(spec: LatentSpec, count: int, side: int, seed: int = 0, num_classes: int = 2):
    return random_codes(spec, count, side, seed), np.arange(count, dtype=np.int64) % num_classes


def striped_split(spec: LatentSpec, count: int, side: int, seed: int):
    """A problem that can be learned: class 1 has stripes across, class 0 along, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    phase = rng.integers(0, 4, count)
    wave = np.sin((np.arange(side)[None] + phase[:, None]) * np.pi / 2)  # (N, side)
    along = np.broadcast_to(wave[:, None, :], (count, side, side))
    pattern = np.where(labels[:, None, None] == 1, along.transpose(0, 2, 1), along)
    values = 128 + 40 * pattern[:, None] + rng.normal(0, 40, (count, spec.latent_channels, side, side))
    return values.clip(*spec.byte_range).astype(np.uint8), labels.astype(np.int64)


def patterned_split(spec: LatentSpec, count: int, side: int, seed: int):
    """Stripes across, stripes along, brightness, and noise; and which of the three a sample has, uint8 (N, 3)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (count, 3), np.uint8)
    wave = np.sin(np.arange(side) * np.pi / 2 + rng.integers(0, 4, (count, 1)) * np.pi / 2)
    across, along, bright = (labels[:, each, None, None].astype(float) for each in range(3))
    values = 108 + 40 * across * wave[:, :, None] + 40 * along * wave[:, None, :] + 50 * bright
    values = values[:, None] + rng.normal(0, 20, (count, spec.latent_channels, side, side))
    return values.clip(*spec.byte_range).astype(np.uint8), labels


def graded_split(spec: LatentSpec, count: int, side: int, seed: int):
    """Brightness and strength of stripes, as targets of large and small units, float32 (N, 2), some unknown."""
    rng = np.random.default_rng(seed)
    brightness, strength = rng.uniform(-1, 1, count), rng.uniform(0, 1, count)
    wave = np.sin(np.arange(side) * np.pi / 2 + rng.integers(0, 4, (count, 1)) * np.pi / 2)
    values = 128 + 50 * brightness[:, None, None] + 60 * strength[:, None, None] * wave[:, :, None]
    values = values[:, None] + rng.normal(0, 10, (count, spec.latent_channels, side, side))
    targets = np.stack([5000 + 1000 * brightness, 0.01 * strength], 1).astype(np.float32)
    targets[::7, 1] = np.nan
    return values.clip(*spec.byte_range).astype(np.uint8), targets


def identity_layer(channels: int = 3) -> LinearSynthesis:
    """Pixels that are the latents, for data sets of pixels."""
    weight = np.zeros((channels, channels, NEIGHBORHOOD, NEIGHBORHOOD), np.float32)
    weight[np.arange(channels), np.arange(channels), NEIGHBORHOOD // 2, NEIGHBORHOOD // 2] = 1
    return LinearSynthesis(weight, np.zeros(channels, np.float32), *np.float32([[0] * channels, [0.2] * channels]))
