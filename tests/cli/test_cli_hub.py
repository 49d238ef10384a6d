"""`cdl pull`, `cdl push` and `cdl prepare` with addresses, from the command line."""

import json

import fsspec
import pytest


@pytest.fixture
def bucket():
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/cli", recursive=True)


def test_prepared_to_an_address_pulled_and_verified(cdl, source, bucket, tmp_path):
    call = ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--workers", 0, "--out", "memory://cli/set")
    answer = cdl(*call, "--work", tmp_path / "work")
    assert answer.code == 0
    assert "data set  memory://cli/set" in answer.out
    assert not (tmp_path / "work").exists()
    answer = cdl("pull", "memory://cli/set", "-o", tmp_path / "set", "--json", tmp_path / "report.json")
    assert answer.code == 0
    assert "16 samples" in answer.out
    assert json.loads((tmp_path / "report.json").read_text())["splits"]["test"]["num_samples"] == 8
    assert cdl("verify", tmp_path / "set", "--full").code == 0


def test_wrong_calls(refused, source, latents, tmp_path, bucket):
    bucket.pipe_file("/cli/x", b"")
    assert "'flowers' is no repository's name; expected OWNER/NAME" in refused("pull", "flowers", "-o", tmp_path / "a")
    assert "'flowers' is no repository's name; expected OWNER/NAME" in refused("push", latents, "flowers")
    assert "is not a data set" in refused("push", source, "someone/flowers")
    assert "memory://cli is not a data set of latents" in refused("pull", "memory://cli", "-o", tmp_path / "a")
    call = ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--out", tmp_path / "a", "--work", tmp_path / "w")
    assert "--work" in refused(*call)
    assert "needs an --out that is an address" in refused(*call)
    text = refused("prepare", source, "--codec", "rgb-16x", "--size", 64, "--out", "hf://datasets/a/b")
    assert "prepare into a folder, then `cdl push` it" in text
    for protocol in ("http", "https"):
        text = refused("prepare", tmp_path / "none", "--codec", "rgb-16x", "--out", f"{protocol}://host/set")
        assert (
            f"{protocol}://host/set: web servers are read-only; give a folder and copy it there, or an address such as s3://"
            in text
        )
    text = refused("prepare", source, "--codec", "rgb-16x", "--size", 64, "--out", "memory://cli")
    assert "memory://cli holds other files (x); give an address without files" in text
    for call in (
        ("pull", "memory://cli", "-o", "s3://bucket/x"),
        ("export", latents, "--to", "npy", "-o", "s3://bucket/x"),
        ("prepare", tmp_path, "--archive", "--out", "s3://bucket/x"),
    ):
        assert "s3:/bucket/x looks like an address; only `cdl prepare` can write to addresses" in refused(*call)
    assert not (tmp_path / "a").exists()
