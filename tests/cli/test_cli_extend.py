"""`cdl prepare --extend` from the command line."""

import json
import shutil

import pytest


@pytest.fixture
def grown(source, latents, tmp_path):
    """A copy of the data set, and of its source with more photos, one of them of a new class."""
    shutil.copytree(latents, tmp_path / "latents")
    root = tmp_path / source.name
    shutil.copytree(source, root)
    photos = sorted((source / "test" / "cat").iterdir())
    (root / "train" / "aardvark").mkdir()
    shutil.copy(photos[0], root / "train" / "aardvark" / "new.png")
    shutil.copy(photos[1], root / "train" / "cat" / "new.png")
    return root, tmp_path / "latents"


def test_extending_is_idempotent(cdl, grown, tmp_path):
    root, out = grown
    before = json.loads((out / "manifest.json").read_text())
    call = ("prepare", root, "--codec", "rgb-16x", "--size", 64, "--workers", 0, "--out", out, "--extend")
    answer = cdl(*call, "--json", tmp_path / "extended.json")
    assert answer.code == 0
    assert f"{out}: 2 new samples" in answer.err
    after = json.loads((tmp_path / "extended.json").read_text())
    assert after["class_names"] == [*before["class_names"], "aardvark"]
    assert after["splits"]["train"]["num_samples"] == before["splits"]["train"]["num_samples"] + 2
    assert "train-00001" in str(after["shards"])
    manifest = (out / "manifest.json").read_bytes()
    answer = cdl(*call)
    assert (answer.code, f"{out}: nothing to extend" in answer.err) == (0, True)
    assert (out / "manifest.json").read_bytes() == manifest
    assert cdl("verify", out, "--full").code == 0


def test_a_dry_run_reports_additions_and_writes_nothing(cdl, refused, grown, tmp_path):
    root, out = grown
    call = ("prepare", root, "--codec", "rgb-16x", "--size", 64, "--workers", 0, "--extend", "--dry-run")
    before = sorted(out.rglob("*"))
    answer = cdl(*call, "--out", out, "--json", tmp_path / "expected.json")
    assert answer.code == 0
    assert f"{out}: 2 new samples" in answer.err
    assert sorted(out.rglob("*")) == before
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert (expected["num_samples"]["train"], expected["num_shards"], expected["num_measured"]) == (2, 1, 2)
    assert "extend it in a folder" in refused(*call, "--out", "s3://bucket/latents")
    assert "is not a data set" in refused(*call, "--out", tmp_path / "nothing")


def test_wrong_calls(refused, grown, tmp_path):
    root, out = grown
    call = ("prepare", root, "--codec", "rgb-16x", "--size", 64, "--out", out, "--extend")
    assert "--extend with --finish; an extension is one job" in refused(*call, "--finish")
    assert "preprocessing.views" in refused(*call, "--views", "flip")
    assert "holds a finished data set with codec.codec_id" in refused(
        "prepare", root, "--codec", "rgb-4x", "--size", 64, "--out", out, "--extend"
    )
    assert "is not a data set" in refused(*call[:-2], tmp_path / "nothing", "--extend")
    text = refused(*call, "--archive")
    assert "and does not accept --codec rgb-16x, --size 64, --extend; omit one of them" in text
    next((root / "train" / "cat").iterdir()).write_bytes(b"changed")
    assert "have changed in the source since they were encoded; the first is train/" in refused(*call)
