"""Probes: simple classifiers on pooled latents, pixels and features of a frozen network."""

import json

import numpy as np
import pytest
import torch

from classifiers.models.convert_weights import convert_weights
from classifiers.probe.features import NetworkFeatures, PooledFeatures, compute_features
from classifiers.probe.heads import HEADS, choose_heads, fit_head
from classifiers.probe.probe import probe
from tests.support.lite0 import MODEL, lite0_checkpoint
from tests.support.tiny_datasets import identity_layer, make_spec, random_split, write_dataset
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError

CPU = torch.device("cpu")
LOGISTIC = [HEADS["logistic"]]


@pytest.fixture
def bright(write):
    """Samples of class 1 are brighter at the left, of class 0 at the right: 96 in train, 48 in validation."""
    spec = make_spec(latent_channels=3, stride=2, companding="none")

    def split(count, seed):
        codes, labels = random_split(spec, count, 16, seed)
        values = codes.astype(np.int64) // 2
        values[labels == 1, :, :, :8] += 64
        values[labels == 0, :, :, 8:] += 64
        return values.astype(np.uint8), labels

    return write("bright", spec, {"train": split(96, 1), "validation": split(48, 2)}, bank={1: identity_layer()})


@pytest.mark.parametrize("features", ["latents", "pixels"])
def test_every_head_learns_what_can_be_learned(bright, features):
    result = probe(bright["train"].folder, PooledFeatures(features), list(HEADS.values()))
    assert [row.head for row in result.rows] == ["logistic", "knn", "svm"]
    assert (result.num_train, result.num_test, result.test, result.num_classes) == (96, 48, "validation", 2)
    assert result.rows[0].num_bytes == 768
    assert result.majority < 0.65
    for row in result.rows:
        assert row.accuracy > 0.9, row
        assert next(iter(row.setting)) in ("C", "n_neighbors")


def test_pooled_latents_are_means_and_deviations(rgb16):
    values = compute_features(PooledFeatures("latents"), rgb16, device=CPU)
    assert values.shape == (4, 12 * 2 * 16)
    module = PooledFeatures("latents").build(rgb16)
    x = module[0](rgb16[[2]].codes)[0].numpy().reshape(12, 4, 8, 4, 8)
    np.testing.assert_allclose(values[2, :192], x.mean((2, 4)).ravel(), atol=1e-5)
    np.testing.assert_allclose(values[2, 192:], x.std((2, 4)).ravel(), atol=1e-3)


def test_the_cross_validated_setting_is_the_best():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = rng.normal(size=(90, 40)) + np.eye(3, 40)[labels]
    chosen = fit_head(HEADS["logistic"], features, labels).setting["C"]
    scores = {
        value: fit_head(HEADS["logistic"], features, labels, values=[value]).model.score(features, labels)
        for value in HEADS["logistic"].values
    }
    assert chosen in scores
    assert chosen < max(scores)  # the weakest penalty fits the training samples best, and is not chosen


def test_a_small_set_tries_as_many_neighbors_as_there_are():
    features, labels = np.arange(12.0)[:, None], np.arange(12) // 6
    assert fit_head(HEADS["knn"], features, labels).setting["n_neighbors"] <= 8


def test_features_are_cached_by_what_they_depend_on(bright, tmp_path, monkeypatch):
    folder, cache = bright["train"].folder, tmp_path / "cache"
    first = probe(folder, PooledFeatures("latents"), LOGISTIC, cache=cache)
    files = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert len(files) == 2

    def fail(*arguments, **options):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr("classifiers.probe.probe.compute_features", fail)
        again = probe(folder, PooledFeatures("latents"), LOGISTIC, cache=cache)
        assert (again.rows[0].accuracy, again.rows[0].setting) == (first.rows[0].accuracy, first.rows[0].setting)
        with pytest.raises(AssertionError, match="computed again"):
            probe(folder, PooledFeatures("pixels"), LOGISTIC, cache=cache)
    for path in cache.iterdir():
        path.write_bytes(b"damaged")
    probe(folder, PooledFeatures("latents"), LOGISTIC, cache=cache)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == files


def test_folds_test_every_sample(bright):
    result = probe(bright["train"].folder, PooledFeatures("pixels"), LOGISTIC, folds=3)
    assert (result.num_train, result.num_test, result.test) == (96, 144, "3 folds")
    assert result.rows[0].accuracy > 0.9


def test_real_weights_of_a_frozen_network(write, tmp_path):
    weights = tmp_path / "lite0.safetensors"
    convert_weights(lite0_checkpoint(), MODEL, weights)
    spec = make_spec(latent_channels=3, stride=8, companding="none")
    data = write("few", spec, {"train": random_split(spec, 3, 8)})["train"]
    values = compute_features(NetworkFeatures(MODEL, weights), data, device=CPU)
    assert values.shape == (3, 1280)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values, compute_features(NetworkFeatures(MODEL, weights), data, device=CPU))
    from safetensors.torch import load_file

    from classifiers.models.pixel_classifier import load_pixel_classifier

    network = load_pixel_classifier(MODEL, weights)
    module = NetworkFeatures(MODEL, weights).build(data).eval()
    codes = data[[0, 1, 2]].codes
    with torch.inference_mode():
        pixels = module._model.pixels(codes)
        expected = network._model.forward_head(network._model.forward_features(pixels), pre_logits=True)
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-4)
    assert load_file(weights)["classifier.weight"].shape == (1000, 1280)


def test_wrong_calls(bright, write, tmp_path):
    folder = bright["train"].folder
    with pytest.raises(CallError, match=r"unknown features 'pixel'; nearest: pixels"):
        PooledFeatures("pixel")
    with pytest.raises(CallError, match=r"unknown head 'knm'; nearest: knn; choose from logistic, knn, svm"):
        choose_heads(["knm"])
    with pytest.raises(CallError, match="stored as bytes, which have one size only"):
        probe(folder, PooledFeatures("latents"), LOGISTIC, budgets=[100])
    with pytest.raises(CallError, match="of which 'tset' cannot be tested on; a probe needs train and another one"):
        probe(folder, PooledFeatures("latents"), LOGISTIC, split="tset")
    with pytest.raises(CallError, match="1 folds; give at least 2"):
        probe(folder, PooledFeatures("latents"), LOGISTIC, folds=1)
    with pytest.raises(CallError, match="unknown model 'resnet19'"):
        NetworkFeatures("resnet19")
    with pytest.raises(CallError, match="are not a safetensors file; name one, or convert"):
        NetworkFeatures("resnet18", tmp_path / "none.pth")
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    alone = write_dataset(tmp_path / "alone", spec, {"train": random_split(spec, 8, 16)})
    with pytest.raises(CallError, match=r"has the splits train; a probe needs train and another one, or folds"):
        probe(alone, PooledFeatures("latents"), LOGISTIC)
    one = np.zeros(8, np.int64)
    splits = {"train": (random_split(spec, 8, 16)[0], one), "test": (random_split(spec, 8, 16)[0], one)}
    same = write_dataset(tmp_path / "same", spec, splits)
    with pytest.raises(CallError, match="all training samples have the same class"):
        probe(same, PooledFeatures("latents"), LOGISTIC)


def test_a_prefix_is_probed_at_each_budget(tmp_path):
    from datasets_prep import PrepareConfig, prepare
    from datasets_prep.sources import open_source
    from tests.support.pictures import picture
    from walloc_cdl.codec import load_codec

    for split, count in (("train", 8), ("test", 4)):
        for number in range(count):
            path = tmp_path / "photos" / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(number, 64, 64).save(path)
    source = open_source(str(tmp_path / "photos"))
    prepare(source, load_codec("rgb"), tmp_path / "set", PrepareConfig(size=64, workers=0))
    result = probe(tmp_path / "set", PooledFeatures("latents"), LOGISTIC, budgets=[250, 64, 64])
    assert [row.num_bytes for row in result.rows] == [64, 248]
    assert result.rows[0].num_features < result.rows[1].num_features
    assert open_latents(tmp_path / "set", bytes=64).spec.num_planes == 8
    json.dumps(result.to_json())
