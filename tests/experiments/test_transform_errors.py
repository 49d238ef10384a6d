"""The measurement of transforms of latents: what is exact is measured as equal, and the tables have every codec."""

import sys

import pytest
from PIL import Image

from experiments import transform_errors
from tests.support.operators import photos
from walloc_cdl.errors import CallError


@pytest.fixture
def pictures(tmp_path):
    for number, pixels in enumerate(photos(6)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    return tmp_path


def test_the_tables(pictures, monkeypatch, capsys):
    monkeypatch.setattr(transform_errors, "CODECS", {"gray-16x": (None,), "gray": (0.75, 1.5)})
    arguments = ["transform_errors", "--fit", str(pictures), "--images", str(pictures), "--size", "96"]
    monkeypatch.setattr(sys, "argv", arguments)
    transform_errors.main()
    flips, others = (table.splitlines() for table in capsys.readouterr().out.strip().split("\n\n"))
    assert [line.split("|")[1].strip() for line in flips[2:]] == ["gray-16x", "gray 0.75", "gray 1.5"]
    for line in flips[2:]:
        across, mirrored, gain, *_ = (float(each) for each in line.split("|")[2:-1])
        assert across > mirrored + 6
        assert gain == pytest.approx(across - mirrored, abs=0.11)
    assert others[0] == "| transform | compared with encoding | gray-16x | gray 1.5 |"
    assert [line.split("|")[3:5] == [" equal ", " equal "] for line in others[2:5]] == [True, False, True]
    assert len(others) == 2 + len(transform_errors.OTHERS)


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(CallError, match="has no pictures; name a folder"):
        transform_errors.load_squares(tmp_path, 3, 64)
