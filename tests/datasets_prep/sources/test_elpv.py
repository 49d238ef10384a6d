from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from datasets_prep import open_source
from datasets_prep.decode.images import load_pixels
from walloc_cdl.errors import CallError

installed = pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs elpv-dataset")


@installed
def test_solar_cells():
    source = open_source("sample:elpv")
    assert source.split_names == ["train"]
    assert source.num_samples("train") == 2624
    assert source.class_names == ["intact", "defective"]
    # published: 1508 cells at probability 0, 295 at 1/3, 106 at 2/3, 715 at 1 (github.com/zae-bayern/elpv-dataset)
    assert np.bincount(source.listing.splits["train"].labels).tolist() == [1508 + 295, 106 + 715]
    assert source.channels == 1
    assert source.name == "elpv"


@installed
@pytest.mark.slow
def test_solar_cells_match_the_package():
    from elpv_dataset.utils import load_dataset

    images, probabilities, _ = load_dataset()
    source = open_source("sample:elpv")
    for index in range(0, 2624, 41):
        np.testing.assert_array_equal(load_pixels(source.read("train", index), 300, 1)[0], images[index])
        assert source.label("train", index) == (probabilities[index] > 0.5)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        CallError, match=r"sample:elpv needs the package elpv-dataset; install it: `pip install walloc-cdl\[sample\]`"
    ):
        open_source("sample:elpv")
