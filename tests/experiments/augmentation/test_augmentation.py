"""Augmentation of stored latents, and of pixels that are encoded in every step."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from classifiers import create_model
from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import open_source
from experiments.augmentation.compare import WAYS, main, markdown
from experiments.augmentation.encoding_classifier import EncodingClassifier
from tests.support.pictures import picture
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.codec import load_codec
from walloc_cdl.data import LatentLoader, open_latents


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """Two classes, 16 images to train on and 8 to test on."""
    root, seed = tmp_path_factory.mktemp("source") / "photos", 0
    for split, each in (("train", 8), ("test", 4)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(each):
                picture(seed, 70, 64).save(root / split / label / f"{number}.png")
                seed += 1
    return str(root)


@pytest.fixture(scope="module")
def stored(source, tmp_path_factory):
    """The train splits of 768 bytes of bit planes and of the whole pixels."""
    out = tmp_path_factory.mktemp("stored")
    settings = PrepareConfig(size=64, workers=0)
    for name, codec in (("latents", load_codec("rgb").with_planes(96)), ("pixels", load_codec("resize-rgb-1x"))):
        prepare(open_source(source), codec, out / name, settings)
    return open_latents(out / "latents", "train"), open_latents(out / "pixels", "train")


def test_without_augmentation_both_are_the_same_classifier(stored):
    latents, pixels = stored
    classifier = create_model("test_resnet", latents, grid=16).eval()
    encoding = EncodingClassifier(classifier, pixels, latents.codec).eval()
    with torch.no_grad():
        rows, images = (next(iter(LatentLoader(each, 16, shuffle=False))).codes for each in stored)
        assert encoding(images).equal(classifier(rows))


def test_both_draw_the_same_boxes(stored):
    """So pixels differ by what the codec loses, far less than those of other boxes."""
    latents, pixels = stored
    classifier = create_model("test_resnet", latents, grid=16)
    encoding = EncodingClassifier(classifier, pixels, latents.codec)
    shown = []
    for dataset, model in zip(stored, (classifier, encoding), strict=True):
        model.train().augmentation = PixelAugmentation(PRESETS["light"])
        codes, _, words = next(iter(LatentLoader(dataset, 16, shuffle=True, seed=3).with_words()))
        with torch.no_grad():
            shown += [model.pixels(codes, words), model.pixels(codes, words.flip(0))]
    assert (shown[0] - shown[2]).square().mean() < 0.25 * (shown[0] - shown[3]).square().mean()


def test_the_experiment_is_repeated_from_its_runs(source, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [source, "--out", str(out), "--model", "test_resnet", "--bytes", "768", "--grid", "16", "--size", "64"]
    arguments += ["--seeds", "2", "--epochs", "1", "--batch-size", "8", "--threads", "1"]
    arguments += ["--precision", "fp32"]
    main(arguments)
    figures = json.loads((out / "augmentation.json").read_text())
    assert {way: len(scores) for way, scores in figures["scores"].items()} == dict.fromkeys(WAYS, 2)
    first, second = (figures["scores"][way] for way in WAYS[:2])
    assert figures["differences"][0]["per_seed"] == pytest.approx(np.subtract(first, second))
    assert figures["psnr_db"] > 17
    table = (out / "table.md").read_text()
    assert table == markdown(figures)
    assert "16 training and 8 test samples, 768 bytes each" in table
    assert table in capsys.readouterr().out
    main(arguments)
    assert json.loads((out / "augmentation.json").read_text()) == figures


def test_wrong_calls(source, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([source, "--out", str(tmp_path / "out"), "--test-split", "testing"])
    expected = "has the splits test, train, but none is called testing; name one of them with --test-split"
    assert expected in capsys.readouterr().err.replace("train, test", "test, train")


def test_a_quarter_of_a_source_without_a_test_split_is_held_out(source, tmp_path, capsys):
    out = tmp_path / "out"
    train_only = tmp_path / "photos"
    shutil.copytree(Path(source.removeprefix("imagefolder:")) / "train", train_only)
    arguments = [f"imagefolder:{train_only}", "--out", str(out), "--model", "test_resnet", "--bytes", "768"]
    main([*arguments, "--grid", "16", "--size", "64", "--seeds", "1", "--epochs", "1", "--batch-size", "4"])
    assert "12 training and 4 test samples" in capsys.readouterr().out
