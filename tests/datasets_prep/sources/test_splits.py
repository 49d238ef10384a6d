from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.core.splits import holdout
from tests.support.reading_sources import keys
from walloc_cdl.errors import CallError


class Memory(Source):
    def __init__(self, labels, name="memory"):
        keys = [f"k{index}" for index in range(len(labels))]
        listing = SplitListing(keys, np.array(labels, np.int64), np.arange(len(labels)))
        super().__init__(name, Listing({"train": listing}, ["a", "b", "c"]))

    def read(self, split, index):
        return self.key(split, index).encode()


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 2), min_size=4, max_size=80), fraction=st.floats(0.2, 0.8), seed=st.integers(0, 9)
)
def test_holdout_is_a_stratified_partition(labels, fraction, seed):
    source = Memory(labels)
    held = holdout(source, fraction, seed)
    assert held.split_names == ["train", "test"]
    train, test = keys(held, "train"), keys(held, "test")
    assert sorted(train + test) == sorted(keys(source, "train"))
    assert len(test) == round(fraction * len(labels))
    for label in set(labels):
        share = len(test) / len(labels) * labels.count(label)
        got = sum(held.label("test", index) == label for index in range(len(test)))
        assert share - 1 < got < share + 1
    for split in held.split_names:
        for index, key in enumerate(keys(held, split)):
            assert held.read(split, index) == key.encode()
            assert held.num_bytes(split, index) == int(key[1:])
            assert held.label(split, index) == labels[int(key[1:])]
    assert keys(holdout(source, fraction, seed), "test") == test


def test_holdout_depends_on_the_seed_and_never_on_the_library_version():
    source = Memory([0, 1] * 20)
    held = set()
    for parity in (0, 1):
        members = [f"k{index}" for index in range(parity, 40, 2)]
        held.update(sorted(members, key=lambda key: hashlib.sha256(f"0:{key}".encode()).hexdigest())[:4])
    assert set(keys(holdout(source, 0.2, 0), "test")) == held
    assert keys(holdout(source, 0.2, 0), "test") != keys(holdout(source, 0.2, 1), "test")


def test_holdout_twice_gives_three_splits():
    source = holdout(holdout(Memory([0, 1] * 20), 0.25), 0.2, into="validation")
    assert {split: source.num_samples(split) for split in source.split_names} == {
        "train": 24,
        "test": 10,
        "validation": 6,
    }
    everything = [key for split in source.split_names for key in keys(source, split)]
    assert len(set(everything)) == 40


def test_holdout_refusals():
    source = Memory([0, 1] * 5)
    with pytest.raises(CallError, match="source memory has no split 'dev'; it has train"):
        holdout(source, 0.2, split="dev")
    with pytest.raises(CallError, match="source memory has a split 'test' already"):
        holdout(holdout(source, 0.2), 0.2)
    for fraction in (0.0, 1.0, -1, float("nan")):
        with pytest.raises(CallError, match=f"holding out {fraction:g} of split 'train'; expected a fraction above 0"):
            holdout(source, fraction)
    with pytest.raises(CallError, match=r"holding out 0\.01 of 10 samples leaves one side empty"):
        holdout(source, 0.01)
