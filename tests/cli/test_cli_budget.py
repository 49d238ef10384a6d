"""Budgets on the command line: `cdl prepare --bytes`, `--codec own`, `cdl cut`, and `--bytes` where sets are read."""

import json

import pytest

from walloc_cdl.latents import load_manifest


@pytest.fixture
def packed(cdl, source, tmp_path):
    """The source at 64 pixels in 768 bytes a sample: 96 planes of 8 bytes."""
    answer = cdl("prepare", source, "--bytes", 768, "--size", 64, "--workers", 0, "--out", tmp_path / "packed")
    assert answer.code == 0, answer.err
    assert "codec rgb, the shipped one for 3 channels\n" in answer.err
    assert "rgb (96 bit planes, 1.5 bits a pixel)" in answer.out
    return tmp_path / "packed"


def test_prepare_names_no_codec_but_a_budget(cdl, refused, packed, source, tmp_path):
    call = ("prepare", source, "--size", 64, "--workers", 0, "--out", tmp_path / "other")
    answer = cdl(*call, "--bytes", 100)
    assert answer.code == 0, answer.err
    assert "below 0.4 bits a pixel, --codec rgb-low is better" in answer.err
    assert "100 bytes are rounded down to 12 whole bit planes, 96 bytes" in answer.err
    text = refused("prepare", source, "--size", 64, "--out", tmp_path / "none")
    assert "Missing option '--codec'" in text
    assert "or give --bytes or --bpp, for a shipped one" in text


def test_what_inspect_shows(cdl, refused, packed, tmp_path):
    report = tmp_path / "inspect.json"
    text = cdl("inspect", packed, "--json", report).out
    assert "96 planes" in text
    assert "768 bytes, 1.5 bits a pixel" in text
    table = json.loads(report.read_text())["prefixes"]
    assert [(row["planes"], row["bytes"]) for row in table[-2:]] == [(48, 384), (96, 768)]
    assert table[-1]["psnr_db"] > table[0]["psnr_db"] > 10
    cdl("inspect", packed, "--bytes", 90, "--json", report)
    (row,) = json.loads(report.read_text())["prefixes"]
    assert (row["planes"], row["bytes"]) == (11, 88)
    assert "7 bytes a sample; these latents take 8 to 768, 8 a plane" in refused("inspect", packed, "--bytes", 7)
    (packed / "codec" / "config.json").write_text("{")
    assert "dB expected" not in cdl("inspect", packed).out


def test_cut(cdl, refused, packed, tmp_path):
    answer = cdl("cut", packed, "--bytes", 200, "--out", tmp_path / "small", "--json", tmp_path / "cut.json")
    assert answer.code == 0, answer.err
    assert "25 bit planes, 0.3906 bits a pixel" in answer.err
    assert load_manifest(tmp_path / "small").spec.num_planes == 25
    assert json.loads((tmp_path / "cut.json").read_text())["splits"]["train"]["num_samples"] == 16
    assert "intact" in cdl("verify", tmp_path / "small", "--full").out
    assert "8 to 768, 8 a plane" in refused("cut", packed, "--bytes", 5000, "--out", tmp_path / "big")
    assert "give the budget either in bytes" in refused("cut", packed, "--out", tmp_path / "big")


@pytest.mark.parametrize("form", ["npy", "parquet", "webdataset"])
def test_an_export_of_a_prefix_has_the_codes_of_the_cut_set(cdl, refused, packed, tmp_path, form):
    cdl("cut", packed, "--bytes", 96, "--out", tmp_path / "small")
    call = ("export", packed, "--to", form, "--bytes", 99)
    assert cdl(*call, "--out", tmp_path / "prefix").code == 0
    assert cdl("export", tmp_path / "small", "--to", form, "--out", tmp_path / "whole").code == 0
    ours, theirs = (tmp_path / "prefix", tmp_path / "whole")
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("train*") if path.is_file())
    assert names
    for name in names:
        if name.suffix != ".json":
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert not any((ours / "codec" / f"{name}.safetensors").exists() for name in ("synthesis", "operators"))
    assert "is already" not in cdl(*call, "--out", ours).err
    text = refused("export", packed, "--to", form, "--bytes", 200, "--out", ours)
    assert "holds an export of another data set, format or split" in text
    text = refused("export", packed, "--archive", "--bytes", 99, "--out", tmp_path / "archive")
    assert (
        "--bytes 99 cannot be combined with --archive: archives hold whole samples; `cdl cut` the data set first"
        in text
    )


def test_reading_commands_take_a_prefix(cdl, refused, packed, tmp_path):
    assert cdl("preview", packed, "--bytes", 96, "--num", 2, "--out", tmp_path / "a.png").code == 0
    assert cdl("preview", packed, "--num", 2, "--out", tmp_path / "b.png").code == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    run = tmp_path / "run"
    train = ("train", packed, "--model", "test_resnet", "--epochs", 1, "--threads", 1, "--device", "cpu")
    answer = cdl(*train, "--bytes", 96, "--out", run)
    assert answer.code == 0, answer.err
    cdl("cut", packed, "--bytes", 96, "--out", tmp_path / "small")
    results = []
    for folder in (packed, tmp_path / "small"):  # the run says how many planes to read
        answer = cdl("evaluate", run, folder, "--json", tmp_path / "metrics.json")
        assert answer.code == 0, answer.err
        results.append(json.loads((tmp_path / "metrics.json").read_text()))
    assert results[0] == results[1]
    text = refused("evaluate", run, packed, "--bytes", 192)
    assert f"{packed} is read with 24 bit planes, but {run} was trained on 12; omit --bytes" in text


def test_an_own_codec(cdl, refused, source, tmp_path):
    call = ("prepare", source, "--codec", "own", "--bpp", 1.5, "--size", 64, "--workers", 0, "--out", tmp_path / "own")
    forecast = cdl(*call, "--dry-run")
    assert forecast.code == 0, forecast.err
    assert "the job fits one first" in forecast.err
    assert not (tmp_path / "own").exists()
    answer = cdl(*call)
    assert answer.code == 0, answer.err
    assert "own (96 bit planes, 1.5 bits a pixel)" in answer.out
    again = cdl(*call)
    assert (again.code, again.out) == (0, answer.out)
    assert "is already finished; nothing to do" in again.err
    text = refused("prepare", "hf:a/b?streaming=1", "--codec", "own", "--bpp", 1.5, "--out", tmp_path / "stream")
    assert "--codec own with the stream hf:a/b?streaming=1: a fit reads the train split" in text


def test_an_own_codec_at_an_address(cdl, source, tmp_path, monkeypatch):
    monkeypatch.setenv("WALLOC_CDL_CACHE", str(tmp_path / "cache"))
    call = ("prepare", source, "--codec", "own", "--bpp", 1.5, "--size", 64, "--workers", 0)
    address = f"file://{tmp_path / 'remote'}"
    answer = cdl(*call, "--out", address)
    assert answer.code == 0, answer.err
    again = cdl(*call, "--out", address)
    assert again.code == 0, again.err
    assert "is already finished; nothing to do" in again.err


def test_a_classifier_with_budgets_serves_every_rate(cdl, refused, packed, tmp_path):
    """Its latents are transformed, too."""
    run, train = tmp_path / "run", ("train", packed, "--model", "test_resnet", "--epochs", 1, "--batch-size", 8)
    answer = cdl(*train, "--budgets", "96,768", "--stem", "channels", "--grid", 16, "--augment", "light", "--out", run)
    assert answer.code == 0, answer.err
    figures = {}
    for num_bytes in (96, 200, 768):
        path = tmp_path / f"{num_bytes}.json"
        assert cdl("evaluate", run, packed, "--bytes", num_bytes, "--json", path).code == 0
        figures[num_bytes] = json.loads(path.read_text())
    assert cdl("evaluate", run, packed, "--json", tmp_path / "all.json").code == 0
    assert json.loads((tmp_path / "all.json").read_text()) == figures[768]
    config = json.loads((run / "config.json").read_text())
    assert config["classifier"]["budgets"] == [12, 96]
    assert (config["train"]["augment"]["hflip"], config["train"]["augment"]["shift"]) == (0.5, 4)
    assert "expected numbers of bytes" in refused(*train, "--budgets", "few", "--out", tmp_path / "other")
    assert "7 bytes a sample" in refused(*train, "--budgets", "7", "--out", tmp_path / "other")
