"""`cdl codec fit`, `info` and `list` for codecs with bit planes and for 8-bit codes."""

import json

import pytest

from tests.support.planes import plane_codec
from walloc_cdl.cli.planes import curve_text
from walloc_cdl.codec import load_codec
from walloc_cdl.codec.io import zoo
from walloc_cdl.planes.table import plane_table


def test_fit_of_bit_planes_and_what_info_shows(cdl, source, tmp_path):
    out, report = tmp_path / "mine", tmp_path / "info.json"
    answer = cdl("codec", "fit", source, "--size", 64, "--max-rate", 2, "--levels", 2, "--out", out)
    assert answer.code == 0, answer.err
    assert "8 planes   1,536 bytes" not in answer.out
    codec = load_codec(out)
    assert 1 <= codec.spec.num_planes <= 32
    assert codec.config.fit["sizes"] == [64]
    shown = cdl("codec", "info", "--codec", out, "--json", report).out
    assert " bytes at 256 pixels, " in shown
    table = json.loads(report.read_text())["prefixes"]
    count = codec.spec.num_planes
    last = table[-1]
    assert (last["planes"], last["bytes"], last["bits"]) == (count, count * 512, count / 16)
    assert last["psnr_db"] == codec.config.fit["psnr_db"][count]
    assert [row["psnr_db"] for row in table] == sorted(row["psnr_db"] for row in table)
    assert f"{count} planes" in shown
    assert f"{last['psnr_db']:.2f} dB expected" in shown
    assert "fit.psnr_db" not in shown  # hundreds of numbers
    assert "dB expected" in answer.out


def test_planes_alone_take_the_default_rate(cdl, source, tmp_path):
    assert cdl("codec", "fit", source, "--size", 64, "--planes", "--levels", 1, "--out", tmp_path / "mine").code == 0
    assert 12 < load_codec(tmp_path / "mine").spec.num_planes <= 24  # up to 6 bits at 4 pixels a position


@pytest.mark.parametrize(
    ("option", "value"),
    [("--reduction", 16), ("--latent-channels", 3), ("--gain", 3), ("--storage", "raw"), ("--slope", 1)],
)
def test_settings_of_bytes_with_bit_planes(refused, source, tmp_path, option, value):
    text = refused("codec", "fit", source, "--planes", option, value, "--out", tmp_path / "out")
    assert f"{option} with bit planes, whose bits the fit allots" in text
    assert not (tmp_path / "out").exists()


def test_the_gain_is_chosen_for_the_storage(cdl, refused, source, tmp_path):
    gains = {}
    for name, options in {"raw": (), "archive": ("--storage", "archive"), "slope": ("--slope", 4)}.items():
        done = cdl("codec", "fit", source, "--size", 64, "--levels", 2, *options, "--out", tmp_path / name)
        assert done.code == 0, done.err
        fit = load_codec(tmp_path / name).config.fit
        gains[name] = fit["gain"]
        assert fit["storage"] == ("raw" if name == "raw" else "archive")
    assert gains["raw"] > gains["archive"] > gains["slope"]
    call = ("codec", "fit", source, "--out", tmp_path / "out")
    assert "a slope of 1 dB for codes that are stored raw" in refused(*call, "--storage", "raw", "--slope", 1)
    assert "unknown storage 'disk'" in refused(*call, "--storage", "disk")


def test_the_list_shows_the_curve(cdl, monkeypatch, tmp_path):
    codec = plane_codec()
    codec.save_pretrained(tmp_path / "zoo" / "planes")
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "zoo")
    answer = cdl("codec", "list", "--json", tmp_path / "list.json")
    assert answer.code == 0, answer.err
    count = codec.spec.num_planes
    assert f"{count} bit planes, {count / 16:.4g} bits a pixel" in answer.out
    (row,) = json.loads((tmp_path / "list.json").read_text())
    assert row["prefixes"][-1]["psnr_db"] == codec.config.fit["psnr_db"][count]
    assert f"expected: {curve_text(row['prefixes'])} bits a pixel" in answer.out


def test_a_table_of_an_untrusted_description():
    spec = plane_codec().spec
    for fit in ({}, {"psnr_db": "high"}, {"psnr_db": ["high"] * 99}, {"psnr_db": [1.0]}):
        table = plane_table(spec, fit, (2, 2))
        assert not any("psnr_db" in row for row in table)
        assert curve_text(table) == ""
    assert [row["bytes"] for row in plane_table(spec, {}, (3, 3), counts=[1, 2])] == [2, 4]
