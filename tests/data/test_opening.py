"""Opening a data set of ten million samples in a thousand shards costs as much as reading its manifest."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from sys import getallocatedblocks

import numpy as np
import pytest

from tests.support.memory import PeakMemory
from tests.support.small_sets import CLASS_NAMES, make_spec, write_small_set
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.latents import Manifest, SplitSummary, code_histogram, write_manifest, write_shard

SHARDS, SHARD_SAMPLES = 1000, 10_000
MAPS = Path("/proc/self/maps")


def write_large_set(folder):
    """Write a manifest of all shards, but only one shard."""
    spec, rng = make_spec(1), np.random.default_rng(0)
    codes = rng.integers(1, 256, (SHARD_SAMPLES, 1, 1, 1), dtype=np.uint8)
    labels = rng.integers(0, len(CLASS_NAMES), SHARD_SAMPLES)
    keys = [f"{row}" for row in range(SHARD_SAMPLES)]
    stored = write_shard(folder, "one.safetensors", spec=spec, split="train", codes=codes, labels=labels, keys=keys)
    counts = SHARDS * np.bincount(labels, minlength=len(CLASS_NAMES))
    manifest = Manifest(
        spec=spec,
        latent_shape=(1, 1, 1),
        splits={"train": SplitSummary(SHARDS * SHARD_SAMPLES, counts.tolist())},
        shards=[replace(stored, name=f"train-{number:05d}.safetensors") for number in range(SHARDS)],
        files={},
        histograms={"train": SHARDS * code_histogram(codes, 1)},
        label_kind="class",
        class_names=CLASS_NAMES,
    )
    write_manifest(folder, manifest)
    return codes, labels


def num_mapped(folder):
    """Number of mapped shards of this folder; None if the kernel does not report it."""
    return sum(str(folder) in line for line in MAPS.read_text().splitlines()) if MAPS.exists() else None


@pytest.mark.slow
def test_ten_million_samples(tmp_path):
    small, folder = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    folder.mkdir()
    write_small_set(small, {"train": [5]})
    next(iter(LatentLoader(open_latents(small), 2)))  # imports and compiles everything once
    codes, labels = write_large_set(folder)

    with PeakMemory() as peak:
        dataset = open_latents(folder)
        assert len(dataset) == SHARDS * SHARD_SAMPLES
    assert peak.num_bytes < 10_000_000, "the demand is 100 MB; all labels or indices would take 80 MB"

    for number in range(SHARDS):  # none of these existed before, so none was opened
        os.link(folder / "one.safetensors", folder / f"train-{number:05d}.safetensors")
    with PeakMemory() as peak:
        sample, label = dataset[7_001_234]
        assert (sample.item(), label) == (codes[1234].item(), labels[1234])
        loader = LatentLoader(dataset, 256)
        assert len(loader) == SHARDS * SHARD_SAMPLES // 256
    assert peak.num_bytes < 10_000_000
    assert num_mapped(folder) in (1, None)

    before = getallocatedblocks()
    batches = iter(loader)
    drawn, drawn_labels = next(batches)
    rows = loader.batches.order(0)[:256] % SHARD_SAMPLES
    np.testing.assert_array_equal(drawn.numpy(), codes[rows])
    np.testing.assert_array_equal(drawn_labels.numpy(), labels[rows])
    # About fifteen for each shard that is mapped now; a list of all batches has 100,000, one of indices millions.
    assert getallocatedblocks() - before < 50 * SHARDS
    batches.close()


def test_a_relative_folder_survives_a_change_of_directory_and_a_pickle(tmp_path, monkeypatch):
    for name in ("set", "elsewhere"):
        (tmp_path / name).mkdir()
    content = write_small_set(tmp_path / "set", {"train": [3, 2]})["train"]
    monkeypatch.chdir(tmp_path)
    dataset = open_latents("set")
    monkeypatch.chdir("elsewhere")
    for each in (dataset, pickle.loads(pickle.dumps(dataset)), pickle.loads(pickle.dumps(dataset[1:]))):
        np.testing.assert_array_equal(each.gather([len(each) - 1]).codes[0], content.codes[-1])
    assert dataset.folder == tmp_path / "set"
