"""Costs of a condition, and when encoding has paid for itself."""

import pytest
import torch
from torch import nn

from classifiers import create_model
from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import open_source
from experiments.costs.break_even import BreakEvenConfig, crossing, measure_break_even
from experiments.costs.condition_costs import measure_costs
from experiments.costs.memory import training_memory_bytes
from tests.support.pictures import picture
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes, 16 images to train on and 4 to test on; one file is no image."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(20):
        folder = root / ("test" if number >= 16 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 70, 64).save(folder / f"{number}.png")
    (root / "train/cat/broken.png").write_bytes(b"no image")
    return open_source(f"imagefolder:{root}")


@pytest.mark.parametrize("workers", [0, 1])
def test_break_even(photos, tmp_path, workers):
    """Both ways train on every usable sample; the result has times of both, and nothing is left behind."""
    seen = []

    def create(dataset):
        model = create_model("test_resnet", dataset, grid=32)
        model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
        return model

    config = BreakEvenConfig("latents-768", 64, 384, batch_size=8, workers=workers)
    found = measure_break_even(photos, load_codec("rgb").with_planes(96), create, config, folder=tmp_path)
    assert found.condition == "latents-768"
    assert set(seen) == {(8, 3, 32, 32)}
    assert min(found.prepare_s, found.source_epoch_s, found.stored_epoch_s) > 0
    if found.measured_epochs is not None:
        assert found.measured_epochs > 0
    assert not list(tmp_path.iterdir())


def test_break_even_of_a_source_with_more_damaged_files_than_usable_ones(tmp_path):
    for number in range(12):
        folder = tmp_path / "photos" / "train" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if number < 4:
            picture(number, 70, 64).save(folder / f"{number}.png")
        else:
            (folder / f"{number}.png").write_bytes(b"no image")
    source = open_source(f"imagefolder:{tmp_path / 'photos'}")
    config = BreakEvenConfig("latents-768", 64, batch_size=32, workers=0)
    codec = load_codec("rgb").with_planes(96)
    found = measure_break_even(source, codec, lambda each: create_model("test_resnet", each, grid=16), config)
    assert found.source_epoch_s > 0


def test_the_crossing_is_where_both_sums_are_equal():
    source, stored = [3.0, 2.0, 4.0], [1.0, 1.5, 1.0]
    assert crossing(2.25, source, stored) == pytest.approx(1.5)  # 4.0 on both sides
    assert crossing(5.5, source, stored) == pytest.approx(3.0)
    assert crossing(5.5 + 11 / 6, source, stored) == pytest.approx(4.0)  # as the mean of the three goes on
    assert crossing(1.0, stored, source) is None


def test_costs_of_a_condition(photos, tmp_path):
    prepare(photos, load_codec("rgb").with_planes(96), tmp_path / "set", PrepareConfig(size=64))
    dataset = open_latents(tmp_path / "set", "train", bytes=384)
    model = create_model("test_resnet", dataset, grid=32)
    model.augmentation = PixelAugmentation(PRESETS["light"])
    costs = measure_costs(model, dataset, batch_size=8, num_samples=20)
    assert costs.total_bytes == 20 * 384
    assert costs.num_tokens == 32 * 32
    rates = (costs.prepare_images_per_s, costs.load_images_per_s, costs.train_images_per_s, costs.predict_images_per_s)
    assert all(rate is not None and rate > 0 for rate in rates)
    assert set(costs.step_shares) == {"loader", "unpacking", "synthesis", "augmentation light", "step"}
    assert sum(costs.step_shares.values()) == pytest.approx(1)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert costs.peak_memory_bytes > 4 * weights
    larger = measure_costs(create_model("test_resnet", dataset, grid=64), dataset, batch_size=8, num_samples=20)
    assert larger.flops > 3 * costs.flops > 0
    assert larger.peak_memory_bytes > costs.peak_memory_bytes


def test_operations_of_a_model_that_is_known(photos, tmp_path):
    """A convolution alone: 2 · K · K · in · out operations at each position of its output."""
    prepare(photos, load_codec("rgb").with_planes(96), tmp_path / "set", PrepareConfig(size=64))
    dataset = open_latents(tmp_path / "set", "train")
    model = create_model("test_resnet", dataset, grid=16)
    own = measure_costs(model, dataset, batch_size=4, num_samples=1).flops
    head = model.backbone.get_classifier()
    model.backbone.reset_classifier(0)
    without = measure_costs(model, dataset, batch_size=4, num_samples=1).flops
    assert own - without == 2 * head.in_features * head.out_features


def test_what_a_step_keeps():
    """Of y = w₂ relu(w₁ x): the weights, their gradients, two states of AdamW each, and what both layers save."""
    model = nn.Sequential(nn.Linear(100, 50, bias=False), nn.ReLU(), nn.Linear(50, 1, bias=False))
    x = torch.ones(8, 100)
    weights = 4 * (100 * 50 + 50)
    saved = 4 * 8 * (100 + 50)  # x; the output of the ReLU, which both the ReLU and the second layer save
    assert training_memory_bytes(model, lambda: model(x).sum()) == 4 * weights + saved
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    assert training_memory_bytes(model, lambda: model(x).sum()) == weights + 3 * 4 * 50 + 4 * 8 * 50
