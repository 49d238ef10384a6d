"""The examples run on small data sets, and learn what they hold."""

import importlib
import warnings

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from classifiers import load_classifier
from tests.support.tiny_datasets import identity_layer, make_spec, striped_split, write_dataset

SPEC = make_spec(latent_channels=3, stride=2, companding="none")


@pytest.fixture(scope="module")
def striped(tmp_path_factory) -> str:
    """Two classes of 3 × 16 × 16 pixels that differ in the direction of their stripes."""
    splits = {"train": striped_split(SPEC, 192, 16, 1), "validation": striped_split(SPEC, 96, 16, 2)}
    return str(write_dataset(tmp_path_factory.mktemp("data") / "striped", SPEC, splits, bank={1: identity_layer()}))


@pytest.fixture(scope="module")
def shaded(tmp_path_factory) -> str:
    """Two classes of 3 × 16 × 16 pixels, brighter above and brighter below, under noise."""
    rng, splits = np.random.default_rng(0), {}
    for split, count in (("train", 120), ("validation", 60)):
        labels = rng.integers(0, 2, count)
        shade = np.linspace(-20, 20, 16)[:, None] * np.where(labels == 1, 1, -1)[:, None, None]
        values = 128 + shade[:, None] + rng.normal(0, 40, (count, 3, 16, 16))
        splits[split] = values.clip(*SPEC.byte_range).astype(np.uint8), labels.astype(np.int64)
    return str(write_dataset(tmp_path_factory.mktemp("data") / "shaded", SPEC, splits, bank={1: identity_layer()}))


def run(name: str, arguments: list[str]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning recommends more workers
        return importlib.import_module(f"examples.{name}").main(arguments)


def test_a_loop_of_plain_torch_learns(striped, capsys):
    accuracy = run("plain_torch", [striped, "--model", "test_resnet", "--epochs", "4", "--batch-size", "32"])
    assert accuracy > 0.9
    assert f"epoch 4: accuracy {accuracy:.3f}" in capsys.readouterr().out


def test_lightning_learns_from_a_latent_loader(striped):
    assert run("lightning_trainer", [striped, "--model", "test_resnet", "--epochs", "4", "--batch-size", "32"]) > 0.9


def test_pretrained_weights_are_fine_tuned(shaded, tmp_path, capsys):
    """Weights that were drawn here stand for published ones."""
    torch.manual_seed(0)
    weights = timm.create_model("test_resnet", num_classes=1000).state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    arguments = [shaded, "--model", "test_resnet", "--weights", str(tmp_path / "weights.safetensors")]
    arguments += ["--out", str(tmp_path / "run"), "--epochs", "2", "--train-from", "layer3"]
    accuracy = run("fine_tuning", arguments)
    assert run("fine_tuning", arguments) == accuracy  # of the finished run
    assert f"accuracy {accuracy:.3f}" in capsys.readouterr().out
    tuned = load_classifier(tmp_path / "run").backbone.state_dict()
    same = {name for name, value in weights.items() if value.shape == tuned[name].shape and value.equal(tuned[name])}
    assert {name.partition(".")[0] for name in same} == {"conv1", "bn1", "layer1", "layer2"}
    assert same >= {name for name in weights if name.startswith("layer2")}


def test_scikit_learn_classifies_pooled_latents(shaded):
    assert run("scikit_learn", [shaded]) > 0.9
