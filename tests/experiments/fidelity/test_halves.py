"""Codecs that are fitted to either half of the images, and measured on the other."""

import json

import pytest

from experiments.fidelity import halves
from experiments.fidelity.halves import main


@pytest.fixture
def arguments(photos, weights, tmp_path):
    names = ["--classifier", "test_resnet", "--weights", str(weights), "--bytes", "192,768", "--size", "128"]
    return [f"imagefolder:{photos}", *names, "--threads", "1", "--out", str(tmp_path / "out")]


def test_every_image_is_measured_once_with_a_codec_of_the_other_half(arguments, tmp_path, monkeypatch, capsys):
    fitted, measured = [], []
    fit, measure = halves.fit_to_source, halves.measure_fidelity
    monkeypatch.setattr(
        halves, "fit_to_source", lambda *each, rest, **options: fitted.append(rest) or fit(*each, rest=rest, **options)
    )
    monkeypatch.setattr(
        halves,
        "measure_fidelity",
        lambda codec, network, images, **options: (
            measured.append((codec.name, list(images.samples))) or measure(codec, network, images, **options)
        ),
    )
    assert main(arguments) == 0
    assert fitted == [False, True]
    first, second = (set(samples) for _, samples in measured)
    assert not first & second
    assert len(first | second) == 7  # one of them is no image
    assert [name for name, _ in measured] == ["half-0", "half-1"]
    result = json.loads((tmp_path / "out" / "fidelity.json").read_text())
    assert result["num_images"] == 6
    assert (tmp_path / "out" / "fidelity.svg").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "half-0 and half-1" in printed
    assert main(arguments) == 0  # codecs are found
    assert fitted == [False, True]


def test_a_wrong_call_is_one_line(arguments, capsys, tmp_path):
    assert main([*arguments, "--against", "gif"]) == 2
    assert "gif" in capsys.readouterr().err.splitlines()[-1]
