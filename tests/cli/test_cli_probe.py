"""`cdl probe` and `cdl model` from the command line."""

import json

from PIL import Image


def test_a_table_a_curve_and_cached_features(cdl, prepared, tmp_path):
    call = ("probe", prepared("rgb"), "--bytes", "64,512", "--heads", "logistic,knn", "-o", tmp_path / "probe")
    answer = cdl(*call, "--json", tmp_path / "p.json")
    assert answer.code == 0
    assert answer.out.splitlines()[0].split() == ["head", "bytes", "features", "setting", "accuracy", "macro", "F1"]
    assert "16 to train on, 8 tested (test)" in answer.out
    payload = json.loads((tmp_path / "p.json").read_text())
    assert [(row["head"], row["num_bytes"]) for row in payload["rows"]] == [
        ("logistic", 64),
        ("knn", 64),
        ("logistic", 512),
        ("knn", 512),
    ]
    assert json.loads((tmp_path / "probe" / "probe.json").read_text())["rows"][0]["head"] == "logistic"
    assert len(list((tmp_path / "probe" / "features").iterdir())) == 4
    with Image.open(tmp_path / "probe" / "curve.png") as curve:
        assert min(curve.size) > 300
    assert cdl(*call).code == 0


def test_wrong_calls_of_probe(refused, latents, foreign, tmp_path):
    assert "--weights is for a network; add --model" in refused("probe", latents, "--weights", "w.safetensors")
    assert "expected whole numbers separated by commas" in refused("probe", latents, "--bytes", "1k")
    assert "expected numbers above 0" in refused("probe", latents, "--bytes", "0")
    assert "holds other files (chapter.txt)" in refused("probe", latents, "-o", foreign)
    assert "no file extension of an image format" in refused("probe", latents, "--plot", tmp_path / "curve")
    assert "no head; choose from" in refused("probe", latents, "--heads", ",")
    assert "unknown features" in refused("probe", latents, "--features", "pixls")


def test_a_run_as_a_program_of_torch(cdl, refused, trained, tmp_path):
    answer = cdl("model", "export", trained, "--to", "torch", "-o", tmp_path / "m.pt2", "--json", tmp_path / "m.json")
    assert answer.code == 0
    assert "codes, uint8 (B, 12, 8, 8)" in answer.out
    assert "from the model's outputs" in answer.out
    assert json.loads((tmp_path / "m.json").read_text())["num_bytes"] == (tmp_path / "m.pt2").stat().st_size
    text = refused("model", "export", trained, "--to", "tflite", "-o", tmp_path / "m.tflite")
    assert "unknown format 'tflite'" in text
    assert "is not a run" in refused("model", "push", tmp_path, "someone/flowers")
