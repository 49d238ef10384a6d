from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep import open_source
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan_job import plan_job
from datasets_prep.sources.core.limits import LimitedSource, first_samples, within_limit
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from tests.support.reading_sources import keys, labels
from walloc_cdl.errors import CallError


class Memory(Source):
    """Samples `k0`, `k1`, … with these labels, in groups of consecutive samples of one label."""

    def __init__(self, labels, sizes=None, names=("a", "b", "c")):
        keys = [f"k{index}" for index in range(len(labels))]
        groups = None if sizes is None else [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
        listing = SplitListing(keys, np.array(labels, np.int64), np.arange(len(labels)), groups)
        super().__init__("memory", Listing({"train": listing}, list(names)))

    def read(self, split, index):
        return self.key(split, index).encode()


@settings(max_examples=60)
@given(labels=st.lists(st.integers(-1, 2), min_size=2, max_size=80), limit=st.integers(1, 90), seed=st.integers(0, 9))
def test_a_limit_is_the_same_share_of_each_class(labels, limit, seed):
    source = Memory(labels)
    limited = within_limit(source, limit, seed)
    count = min(limit, len(labels))
    kept = [int(key[1:]) for key in keys(limited)]
    assert kept == sorted(kept)
    assert len(kept) == count
    for label in set(labels):
        share = count / len(labels) * labels.count(label)
        assert share - 1 < sum(labels[row] == label for row in kept) < share + 1
    assert [limited.read("train", index).decode() for index in range(count)] == keys(limited)
    assert keys(within_limit(source, limit, seed)) == keys(limited)


def test_a_limit_depends_on_keys_and_the_seed_and_not_on_the_order():
    source = Memory([0, 1] * 20)

    def rank(key):
        return hashlib.sha256(f"3:{key}".encode()).digest()

    expected = {key for start in (0, 1) for key in sorted((f"k{n}" for n in range(start, 40, 2)), key=rank)[:5]}
    assert set(keys(within_limit(source, 10, 3))) == expected
    assert set(keys(within_limit(source, 10, 4))) != expected
    listing = source.listing.splits["train"]
    order = np.random.default_rng(0).permutation(40)
    listing.keys[:], listing.labels[:] = [listing.keys[row] for row in order], listing.labels[order]
    assert set(keys(within_limit(source, 10, 3))) == expected


def test_sorted_classes_are_all_there(make_folder):
    root = make_folder(splits=["train"], classes=("a", "b", "c", "d"), each=5)
    limited = within_limit(open_source(str(root)), 8)
    assert labels(limited) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert limited.notes == [
        "limit 8: 8 of the 20 samples of split train, the same share of each class, drawn with seed 0"
    ]
    assert within_limit(open_source(str(root)), 3).notes[0].endswith("; 1 of its 4 classes have none of them")
    assert within_limit(open_source(str(root)), 20).notes == []


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 7), min_size=2, max_size=30), limit=st.integers(1, 120), seed=st.integers(0, 3))
def test_groups_are_kept_as_a_whole(sizes, limit, seed):
    source = Memory([number % 3 for number, size in enumerate(sizes) for _ in range(size)], sizes)
    limited = within_limit(source, limit, seed)
    kept = limited.listing.splits["train"].groups
    assert 1 <= len(kept) <= limit
    if len(kept) < min(limit, sum(sizes)):  # no further group fits
        assert min(size for number, size in enumerate(sizes) if f"g{number}" not in kept) > limit - len(kept)
    if limit >= min(sizes):
        assert all(kept.count(group) == sizes[int(group[1:])] for group in kept)
    else:
        assert (len(set(kept)), len(kept)) == (1, limit)


def test_groups_are_drawn_by_class():
    source = Memory([0] * 40 + [1] * 20 + [2] * 20, [2] * 40)
    assert np.bincount(labels(within_limit(source, 16))).tolist() == [8, 4, 4]
    source = Memory([n % 3 for n in range(30) for _ in range(2)], [2] * 30)
    assert np.bincount(labels(within_limit(source, 7))).tolist() == [2, 2, 2]


def test_known_samples_come_first():
    source = Memory([0] * 10 + [1] * 10)
    known = np.zeros(20, bool)
    known[[3, 4, 5]] = True
    limited = within_limit(source, 9, 1).extending({"train": known})
    assert {"k3", "k4", "k5"} < set(keys(limited))
    assert limited.num_samples("train") == 9
    assert keys(LimitedSource(source, 2, known={"train": known})) == ["k3", "k4", "k5"]


def test_other_kinds_of_labels_are_one_class():
    source = Memory([0] * 6)
    numbers = np.arange(6, dtype=np.float32)[:, None]
    listing = SplitListing(keys(source), numbers, np.arange(6))
    source.listing = Listing({"train": listing}, ["age"], label_kind="regression")
    limited = within_limit(source, 3)
    assert limited.num_samples("train") == 3
    assert limited.notes == ["limit 3: 3 of the 6 samples of split train, drawn with seed 0"]


def test_limits_below_one_are_refused():
    with pytest.raises(CallError, match="limit 0; it must be at least 1"):
        within_limit(Memory([0]), 0)


def test_first_samples_are_those_of_a_stream():
    assert keys(first_samples(Memory([0, 1, 2]), 2)) == ["k0", "k1"]
    assert keys(first_samples(Memory([0, 1, 2]), 5)) == ["k0", "k1", "k2"]


def test_plans_record_the_limit(make_folder, rgb_codec):
    source = open_source(str(make_folder(each=3)))
    config = PrepareConfig(size=32, workers=0, limit=4, seed=7)
    plan = plan_job(source, rgb_codec, config).plan
    assert (plan.source["limit"], plan.source["limit_seed"]) == (4, 7)
    assert plan.source["num_samples"] == {"train": 4, "test": 4}
    assert "limit" not in plan_job(source, rgb_codec, PrepareConfig(size=32, workers=0)).plan.source
