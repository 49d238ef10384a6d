"""Commands on sound and on samples that differ in size: training, evaluation by clip, and the comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from classifiers import Reading, load_classifier, predict
from tests.support.sounds import write_sound
from walloc_cdl.data import open_latents

RATE = 44_100


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips of two segments of 0.05 s in two classes and two folds: hums and whistles."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    moments = np.arange(4480)[:, None] / RATE
    for label, frequency in (("hum", 300), ("whistle", 2500)):
        for clip in range(4):
            samples = 6000 * np.sin(2 * np.pi * frequency * moments) + rng.normal(0, 200, moments.shape)
            write_sound(folder / label / f"{clip % 2 + 1}-{clip}.wav", samples.astype(np.int16), RATE)
    return folder


def test_sound_is_prepared_trained_and_evaluated_by_clip(cdl, clips, tmp_path):
    source = f"audiofolder:{clips}"
    split = ("--holdout", 0.5, "--segment", 0.05, "--workers", 0)
    assert cdl("prepare", source, "--codec", "mono-16x", "--out", tmp_path / "set", *split).code == 0
    run = ("--model", "test_resnet", "--epochs", 1, "--batch-size", 4, "--threads", 1, "--grid", 32)
    answer = cdl("train", tmp_path / "set", *run, "--out", tmp_path / "run", "--augment", "timm")
    assert answer.code == 0
    assert "4 labeled samples" in answer.out
    for unit, count in (("auto", 4), ("clip", 4), ("sample", 8)):
        report = tmp_path / f"{unit}.json"
        assert cdl("evaluate", tmp_path / "run", tmp_path / "set", "--unit", unit, "--json", report).code == 0
        assert json.loads(report.read_text())["num_samples"] == count
    answer = cdl("evaluate", tmp_path / "run", tmp_path / "set", "--unit", "clips")
    assert (answer.code, "choose one of auto, sample, clip" in answer.err) == (2, True)
    answer = cdl("evaluate", tmp_path / "run", tmp_path / "set", "--views", "mean")
    assert (answer.code, "there is no mean; choose one view" in answer.err) == (2, True)
    check_prediction_of_clips(cdl, clips, tmp_path)
    answer = cdl("train", tmp_path / "set", *run, "--out", tmp_path / "other", "--crop", "a")
    assert (answer.code, "expected height and width in latents" in answer.err) == (2, True)


def check_prediction_of_clips(cdl, clips, folder):
    """Files get the probabilities that the means of their stored segments' logits give; broken ones are reported."""
    (folder / "broken.wav").write_bytes(b"RIFF")
    files = (clips / "hum", clips / "whistle", folder / "broken.wav")
    assert cdl("predict", folder / "run", *files, "--json", folder / "files.json").code == 0
    found = json.loads((folder / "files.json").read_text())
    assert [Path(each["file"]).name for each in found["unreadable"]] == ["broken.wav"]
    by_file = {each["file"]: each["top"] for each in found["predictions"]}
    assert len(by_file) == 8
    stored, model = open_latents(folder / "set", "test"), load_classifier(folder / "run")
    expected = predict(model, stored, reading=Reading(unit="clip"))
    names = dict.fromkeys(key.rpartition("#")[0] for key in stored.keys(range(len(stored))))
    for key, probabilities in zip(names, expected.probabilities, strict=True):
        top = by_file[str(clips / key)]
        assert top[0]["probability"] == pytest.approx(probabilities.max(), abs=1e-4)
    answer = cdl("predict", folder / "run", *files, "--contact-sheet", folder / "sheet.png")
    assert (answer.code, "the run is of sound; omit it" in answer.err) == (2, True)
    (folder / "empty").mkdir()
    answer = cdl("predict", folder / "run", folder / "empty")
    assert (answer.code, "has no sound files; give clips" in answer.err) == (2, True)


def test_clips_of_any_length_are_trained_in_crops(cdl, clips, tmp_path):
    prepared = ("--holdout", 0.5, "--geometry", "ragged", "--workers", 0)
    assert cdl("prepare", f"audiofolder:{clips}", "--codec", "mono-16x", "--out", tmp_path / "set", *prepared).code == 0
    run = ("--model", "test_resnet", "--epochs", 1, "--batch-size", 4, "--threads", 1, "--grid", 32)
    answer = cdl("train", tmp_path / "set", *run, "--out", tmp_path / "run")
    assert (answer.code, "give the crop in latents that a classifier takes" in answer.err) == (2, True)
    assert cdl("train", tmp_path / "set", *run, "--out", tmp_path / "run", "--crop", 10).code == 0
    for how in ("tiles", "whole"):
        assert cdl("evaluate", tmp_path / "run", tmp_path / "set", "--ragged", how).code == 0


def test_comparison_of_sound(cdl, clips, tmp_path):
    arguments = ("crossval", f"audiofolder:{clips}", "--out", tmp_path / "out", "--segment", 0.1, "--workers", 0)
    short = ("--epochs", 1, "--seeds", 1, "--batch-size", 4, "--threads", 1, "--conditions", "waves-64x,latents-64")
    answer = cdl(*arguments, *short, "--folds", r"/(\d)-", "--json", tmp_path / "report.json")
    assert answer.code == 0
    assert "latents-64" in answer.out
    assert json.loads((tmp_path / "report.json").read_text())["folds"] == ["1", "2"]
    again = cdl(*arguments, *short, "--folds", r"/(\d)-", "--finished-only")
    assert again.out == answer.out
    answer = cdl(*arguments, *short, "--folds", "(x)")
    assert (answer.code, "find nothing in" in answer.err) == (2, True)
