"""Tiny data sets for the tests of the classifiers."""

import pytest

from tests.support.tiny_datasets import (
    graded_split,
    identity_layer,
    make_spec,
    patterned_split,
    random_bank,
    random_split,
    striped_split,
    write_dataset,
)
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.spec import LatentSpec
from walloc_cdl.threads import torch_threads


@pytest.fixture(autouse=True)
def one_thread():
    """So that no trial chooses the number of threads, on which the last bits of the weights depend."""
    with torch_threads(1):
        yield


@pytest.fixture
def write(tmp_path):
    """`write_dataset` in a temporary folder, opened: write(name, spec, splits, …)[split]."""

    def opened(name: str, spec: LatentSpec, splits, **options) -> dict[str, LatentDataset]:
        folder = write_dataset(tmp_path / name, spec, splits, **options)
        return {split: open_latents(folder, split) for split in splits}

    return opened


@pytest.fixture(scope="session")
def rgb16(tmp_path_factory) -> LatentDataset:
    """12 × 32 × 32 latents of RGB at 256 pixels."""
    spec = make_spec()
    return open_latents(
        write_dataset(tmp_path_factory.mktemp("data") / "rgb16", spec, {"train": random_split(spec, 4, 32)})
    )


@pytest.fixture(scope="session")
def pixels64(tmp_path_factory) -> LatentDataset:
    """Pixels with as many stored values: 3 × 64 × 64."""
    spec = make_spec(latent_channels=3, stride=4, companding="none", codec_id="p" * 64)
    return open_latents(
        write_dataset(tmp_path_factory.mktemp("data") / "pixels64", spec, {"train": random_split(spec, 4, 64)})
    )


@pytest.fixture
def striped(write) -> dict[str, LatentDataset]:
    """A learnable two-class set of 3 × 16 × 16 pixels: splits train (192) and validation (96)."""
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    return write(
        "striped",
        spec,
        {"train": striped_split(spec, 192, 16, 1), "validation": striped_split(spec, 96, 16, 2)},
        bank={1: identity_layer(), 2: random_bank(spec)[2]},
    )


@pytest.fixture
def patterned(write) -> dict[str, LatentDataset]:
    """A learnable set of several classes a sample, 3 × 16 × 16 pixels: splits train (256) and validation (96)."""
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    splits = {"train": patterned_split(spec, 256, 16, 1), "validation": patterned_split(spec, 96, 16, 2)}
    return write("patterned", spec, splits, class_names=("across", "along", "bright"), bank={1: identity_layer()})


@pytest.fixture
def graded(write) -> dict[str, LatentDataset]:
    """A learnable set of two regression targets, 3 × 16 × 16 pixels: splits train (256) and validation (96)."""
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    splits = {"train": graded_split(spec, 256, 16, 1), "validation": graded_split(spec, 96, 16, 2)}
    return write("graded", spec, splits, target_names=("brightness", "strength"), bank={1: identity_layer()})
