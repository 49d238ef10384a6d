"""Reading latents of audio, (K, t)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.small_sets import make_spec, write_small_set
from walloc_cdl.data import LatentLoader, ModelInput, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import channel_statistics


@pytest.fixture
def stored(tmp_path):
    return tmp_path, write_small_set(tmp_path, {"train": [5, 4]}, shape=(3, 7))["train"]


@pytest.mark.parametrize("residency", ["mmap", "ram"])
def test_the_loader_delivers_every_sample_once(stored, residency):
    folder, samples = stored
    loader = LatentLoader(open_latents(folder), 2, residency=residency, drop_last=False, seed=3)
    codes, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    order = loader.batches.order(0)
    np.testing.assert_array_equal(codes.numpy(), samples.codes[order])
    np.testing.assert_array_equal(labels.numpy(), samples.labels[order])


def test_model_input_is_the_scaled_values(stored):
    folder, samples = stored
    dataset = open_latents(folder)
    model_input = ModelInput(dataset.spec, dataset.statistics, alpha=1.0)
    x = model_input(torch.from_numpy(samples.codes))
    values = make_spec(3, "audio").byte_values()[samples.codes]
    statistics = channel_statistics(dataset.manifest.histograms["train"], dataset.spec)
    expected = (values - statistics.mean[:, None]) / statistics.std[:, None]
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-4)
    with pytest.raises(CallError, match=r"expected torch.uint8 \[B, 3, t\]"):
        model_input(torch.ones(1, 3, 7, 1, dtype=torch.uint8))


def test_audio_has_no_linear_synthesis(stored):
    with pytest.raises(CallError, match=r"has no linear synthesis \(audio has none\)"):
        _ = open_latents(stored[0]).synthesis_bank
