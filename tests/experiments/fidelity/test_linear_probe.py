"""A linear classifier on features of stored images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from experiments.fidelity import linear_probe
from experiments.fidelity.linear_probe import predict_linear, probe
from experiments.fidelity.stored_forms import parse_forms
from tests.experiments.fidelity.conftest import prepared
from walloc_cdl.errors import CallError


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Two classes, stripes that are one pixel wide and flat gray, with noise: few bytes cannot tell them apart."""
    root, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for number in range(2 * count):
            fine = number % 2
            folder = root / split / ("fine" if fine else "flat")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.full((64, 64), rng.integers(90, 150)) + fine * np.where(np.arange(64) % 2, 40, -40)[:, None]
            noisy = np.clip(pixels + rng.normal(0, 4, (64, 64)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).convert("RGB").save(folder / f"{number:02d}.png")
    return root


def test_detail_that_decides_is_lost_in_few_pixels(stripes, classifier, codec):
    outcome = probe(codec, classifier, prepared(stripes), budgets=[192, 1536], against=parse_forms("pixels"))
    assert len(outcome.keys) == 8
    assert {Path(key).parent.name for key in outcome.keys} == {"fine", "flat"}
    assert outcome.num_labeled == 8
    assert outcome.top1(outcome.predictions) == 1
    shares = {(each.stored, each.budget): outcome.top1(each.predictions) for each in outcome.outcomes}
    assert shares["pixels", 192] < 0.9  # 8 × 8 pixels
    assert shares["planes", 1536] > shares["pixels", 192]
    assert outcome.settings["num_train"] == [16]
    assert "logistic regression on test_resnet" in outcome.notes()[0]


def test_cross_validation_tests_every_image_once(stripes, classifier, codec):
    outcome = probe(codec, classifier, prepared(stripes), budgets=[1536], folds=3)
    assert len(outcome.keys) == 24
    assert outcome.settings["num_train"] == [16, 16, 16]
    assert outcome.top1(outcome.predictions) > 0.9


def test_predictions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 5)) + 3 * np.eye(3, 5)[labels]
    train, test = np.arange(40), np.arange(40, 60)
    standard = (features - features[train].mean(0)) / features[train].std(0)
    scores = []
    for penalty in linear_probe.PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(standard[train], labels[train])
        scores.append(model.predict(standard[test]))
    predicted = predict_linear(features, labels, train, test)
    assert any(np.array_equal(predicted, each) for each in scores)
    assert np.mean(predicted == labels[test]) > 0.9


def test_sources_without_classes_or_test_images_are_refused(stripes, photos, classifier, codec):
    with pytest.raises(CallError, match="has no classes to train a classifier on; give a folder for each class"):
        probe(codec, classifier, prepared(photos), budgets=[192])
    with pytest.raises(CallError, match="has the splits train; give folders train and test, or --folds"):
        probe(codec, classifier, prepared(stripes / "train"), budgets=[192])
    with pytest.raises(CallError, match="1 folds; give at least 2"):
        probe(codec, classifier, prepared(stripes), budgets=[192], folds=1)


def test_the_command(stripes, weights, tmp_path, capsys):
    call = [f"imagefolder:{stripes}", "--codec", "rgb-16x", "--classifier", "test_resnet", "--weights", str(weights)]
    assert linear_probe.main([*call, "--size", "64", "--json", str(tmp_path / "a.json"), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "| rgb-16x | 768 |" in text
    assert "| pixels | 768 |" in text
    assert json.loads((tmp_path / "a.json").read_text())["num_images"] == 8
    assert linear_probe.main([*call, "--bytes", "many"]) == 2
    assert "--bytes 'many'; expected bytes of an image, such as 12288" in capsys.readouterr().err
