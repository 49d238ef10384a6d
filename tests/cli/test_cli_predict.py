"""`cdl predict`: photos and data sets, by a run alone."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import classifiers
from classifiers.prediction.encode_files import FileEncoder
from classifiers.prediction.predict_samples import predict_files
from tests.support.pictures import picture
from walloc_cdl.data import open_latents


def rows_of(path):
    return list(csv.DictReader(path.open()))


def test_photos_get_the_probabilities_of_their_stored_latents(cdl, source, latents, trained, tmp_path):
    answer = cdl("predict", trained, source / "test", "--csv", tmp_path / "p.csv", "--json", tmp_path / "p.json")
    assert answer.code == 0
    assert "samples" in answer.out
    found = rows_of(tmp_path / "p.csv")
    assert list(found[0]) == ["file", "class", "probability", "class_2", "probability_2", "error"]  # two classes
    stored = open_latents(latents, "test")
    expected = classifiers.predict(classifiers.load_classifier(trained), stored).probabilities
    by_key = dict(zip(stored.keys(range(len(stored))), expected, strict=True))
    assert len(found) == len(stored) == 8
    for row in found:
        probabilities = by_key[row["file"].removeprefix(f"{source}/")]
        assert row["class"] == stored.class_names[probabilities.argmax()]
        assert float(row["probability"]) == pytest.approx(probabilities.max(), abs=2e-6)
    payload = json.loads((tmp_path / "p.json").read_text())
    assert payload["classes"] == ["cat", "dog"]
    assert [each["file"] for each in payload["predictions"]] == [row["file"] for row in found]
    top = payload["predictions"][0]["top"]
    assert sum(each["probability"] for each in top) == pytest.approx(1, abs=1e-5)
    assert payload["unreadable"] == []


def test_a_data_set_has_labels_and_an_accuracy(cdl, latents, trained, tmp_path):
    answer = cdl("predict", trained, latents, "--split", "train", "--top", 1, "--csv", tmp_path / "p.csv")
    assert answer.code == 0
    found = rows_of(tmp_path / "p.csv")
    assert len(found) == 16
    assert list(found[0]) == ["file", "label", "class", "probability", "error"]
    assert [row["file"].split("/")[1] for row in found] == [row["label"] for row in found]
    share = np.mean([row["label"] == row["class"] for row in found])
    assert f"accuracy     {share:.4g}" in answer.out


def test_unreadable_files_are_reported_and_the_others_classified(cdl, trained, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(1).save(folder / "good.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8nothing")
    (folder / "notes.txt").write_text("notes")
    answer = cdl("predict", trained, folder, tmp_path / "gone.png", "--json", tmp_path / "p.json")
    assert answer.code == 0
    assert "1 files of other kinds in the folders are left out" in answer.err
    assert f"{tmp_path / 'gone.png'} cannot be read: no such file" in answer.err
    payload = json.loads((tmp_path / "p.json").read_text())
    assert [each["file"] for each in payload["predictions"]] == [str(folder / "good.png")]
    assert [each["file"] for each in payload["unreadable"]] == [str(folder / "bad.jpg"), str(tmp_path / "gone.png")]


def test_exit_code_1_if_no_file_can_be_read(cdl, trained, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    answer = cdl("predict", trained, tmp_path / "bad.jpg", "--csv", tmp_path / "p.csv")
    assert answer.code == 1
    assert "none of 1 files can be read; the first" in answer.err
    assert rows_of(tmp_path / "p.csv")[0]["error"] == "not an image of a known format"


def test_a_contact_sheet_of_photos_and_of_a_data_set(cdl, source, latents, trained, tmp_path):
    assert cdl("predict", trained, source / "test", "--contact-sheet", tmp_path / "a.png").code == 0
    assert cdl("predict", trained, latents, "--contact-sheet", tmp_path / "b.png").code == 0
    with Image.open(tmp_path / "a.png") as photos, Image.open(tmp_path / "b.png") as stored:
        assert photos.size == stored.size
        pixels = [np.asarray(sheet.convert("L"), np.float64)[8:200, 8:200] for sheet in (photos, stored)]
    assert np.corrcoef(*(values.ravel() for values in pixels))[0, 1] > 0.7  # the decoded picture of the same photo


def test_a_run_needs_neither_its_data_set_nor_its_views(cdl, source, tmp_path):
    call = ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--views", "flip", "--workers", 0)
    assert cdl(*call, "--out", tmp_path / "set").code == 0
    call = ("train", tmp_path / "set", "--model", "test_resnet", "--epochs", 1, "--batch-size", 8)
    assert cdl(*call, "--out", tmp_path / "run").code == 0
    stored = open_latents(tmp_path / "set", "test")
    expected = classifiers.predict(classifiers.load_classifier(tmp_path / "run"), stored).probabilities
    shutil.rmtree(tmp_path / "set")
    model = classifiers.load_classifier(tmp_path / "run")
    files = sorted((source / "test").rglob("*.png"))
    found = predict_files(model, FileEncoder(tmp_path / "run", model.config), files)
    assert [sample.top[0][1] for sample in found.samples] == pytest.approx(expected.max(1), abs=2e-6)


def test_a_prefix_of_bit_planes(cdl, source, prepared, tmp_path):
    call = ("train", prepared("rgb"), "--bytes", 64, "--model", "test_resnet", "--epochs", 1, "--batch-size", 8)
    assert cdl(*call, "--out", tmp_path / "run").code == 0
    csvs = [tmp_path / "files.csv", tmp_path / "set.csv"]
    assert cdl("predict", tmp_path / "run", source / "test", "--csv", csvs[0]).code == 0
    assert cdl("predict", tmp_path / "run", prepared("rgb"), "--csv", csvs[1]).code == 0
    files, stored = (rows_of(path) for path in csvs)
    assert [row["probability"] for row in files] == pytest.approx([row["probability"] for row in stored])


def test_wrong_calls(refused, source, latents, prepared, trained, tmp_path):
    assert "is not a run (no config.json)" in refused("predict", latents, source)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no image files; give photos" in refused("predict", trained, empty)
    assert "give one at a time" in refused("predict", trained, latents, source)
    assert "--split test is for data sets" in refused("predict", trained, source, "--split", "test")
    assert "unknown split" in refused("predict", trained, latents, "--split", "tset")
    assert "top is 0; expected at least 1" in refused("predict", trained, source, "--top", 0)
    assert "name a picture that ends in .png" in refused("predict", trained, source, "--contact-sheet", tmp_path / "s")
    assert "the classifier test_resnet" in refused("predict", trained, prepared("rgb-4x"))


def test_a_data_set_of_another_size_is_refused(cdl, refused, source, trained, tmp_path):
    call = ("prepare", source, "--codec", "rgb-16x", "--size", 32, "--workers", 0, "--out", tmp_path / "small")
    assert cdl(*call).code == 0
    text = refused("predict", trained, tmp_path / "small")
    assert "the classifier takes latents of shape (12, 8, 8), but" in text
    assert "(12, 4, 4); prepare it with the size that the classifier was trained on" in text


def test_an_unfinished_run_and_broken_codecs(refused, source, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "codec" / "model.safetensors").unlink()
    assert "codec/model.safetensors is missing" in refused("predict", run, source, code=1)
    shutil.rmtree(run / "codec")
    assert "has no codec, since its data set had none" in refused("predict", run, source)
    (run / "record.json").unlink()
    assert "is not finished; run the same `cdl train` again" in refused("predict", run, source)


def test_a_codec_of_another_run_is_refused(refused, source, prepared, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(prepared("rgb-4x") / "codec" / name, run / "codec" / name)
    text = refused("predict", run, source, code=1)
    assert "codec id is" in text
    assert "but the classifier was trained on latents of" in text


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_several_classes_a_sample_and_targets(cdl, source, tmp_path, kind):
    folder = tmp_path / "photos"
    shutil.copytree(source / "train", folder)
    values = ["cat", "cat|dog", "dog", "cat"] if kind == "multilabel" else ["1", "2", "5", "8"]
    keys = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    lines = ["path,value", *(f"{key},{values[number % 4]}" for number, key in enumerate(keys))]
    (folder / "table.csv").write_text("\n".join(lines))
    option = "label=value&separator=%7C" if kind == "multilabel" else "target=value"
    call = ("prepare", f"csv:{folder / 'table.csv'}?{option}", "--codec", "rgb-16x", "--size", 64, "--workers", 0)
    answer = cdl(*call, "--out", tmp_path / "set")
    assert answer.code == 0, answer.err
    dataset = open_latents(tmp_path / "set", "train")
    config = classifiers.TrainConfig(epochs=1, batch_size=4)
    classifiers.train(lambda: classifiers.create_model("test_resnet", dataset), dataset, None, config, tmp_path / "run")
    expected = classifiers.predict(classifiers.load_classifier(tmp_path / "run"), dataset)
    for what in (folder, tmp_path / "set"):
        options = ("--split", "train") if what != folder else ()
        answer = cdl("predict", tmp_path / "run", what, *options, "--csv", tmp_path / "p.csv")
        assert answer.code == 0, answer.err
        found = rows_of(tmp_path / "p.csv")
        assert len(found) == len(dataset) == 16
        if kind == "regression":
            assert list(found[0]) == ["file", "value", "error"]
            assert [float(row["value"]) for row in found] == pytest.approx(expected.logits[:, 0].tolist(), rel=1e-4)
        else:
            best = expected.probabilities.max(1).tolist()
            assert [float(row["probability"]) for row in found] == pytest.approx(best, rel=1e-4)
