from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "datasets_prep"))

from pictures import picture

from datasets_prep import PrepareConfig, open_source
from experiments.preparation_speed import measure_preparation
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CallError


@pytest.fixture
def source(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(20):
        picture(number, 40, 36).save(tmp_path / f"photos/{number}.png")
    return open_source(str(tmp_path / "photos"))


@pytest.fixture
def codec():
    return ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))


@pytest.mark.parametrize("workers", [0, 1])
def test_both_are_timed_and_nothing_stays(source, codec, tmp_path, workers):
    config = PrepareConfig(size=32, workers=workers)
    result = measure_preparation(source, codec, config, repeats=2, folder=tmp_path)
    assert (result.num_samples, result.workers, result.repeats) == (20, workers, 2)
    assert result.ratio_range[0] <= result.ratio <= result.ratio_range[1]
    assert min(result.decode_s, result.prepare_s) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_no_repeats(source, codec):
    with pytest.raises(CallError, match="repeats is 0; it must be at least 1"):
        measure_preparation(source, codec, PrepareConfig(size=32), repeats=0)
