"""`merge` and `split` keep every sample exactly once, with its codes, its key and the meaning of its label."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep.upkeep.assignment import assign_groups, assign_stratified
from datasets_prep.upkeep.merge import merge
from datasets_prep.upkeep.split import SplitConfig, split_in_place, take_split
from tests.support.any_samples import layouts
from tests.support.any_sets import read_samples, write_any_set
from tests.support.faults import Faults, KilledError
from tests.support.small_sets import make_spec
from tests.support.trees import contents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, open_shard, verify

CLASSES = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("class", 3))
MULTI = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("multilabel", 3))


def require_correct_ledger(folder: Path) -> None:
    """Assert that the ledger has exactly one row for every stored sample, with its location in the shards."""
    manifest, samples = load_manifest(folder), {}
    for entry in manifest.shards:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        samples |= {(entry.name, row): (entry.split, key) for row, key in enumerate(shard.keys(range(len(shard))))}
    rows = [row for row in pq.read_table(folder / "ledger.parquet").to_pylist() if row["shard"] is not None]
    assert {(row["shard"], row["row"]): (row["split"], row["key"]) for row in rows} == samples
    assert len(rows) == len(samples)


def two_sets(parent: Path, layout: SampleLayout, names=(None, None), counts=((3, 2), (4,))) -> list[Path]:
    folders = [parent / "a", parent / "b"]
    for number, folder in enumerate(folders):
        keys = {"train": [f"{folder.name} {row} é" for row in range(sum(counts[number]))]}
        write_any_set(folder, layout, {"train": counts[number]}, seed=number, keys=keys, class_names=names[number])
    return folders


@settings(max_examples=10, deadline=None, derandomize=True)
@given(layouts())
def test_merging_keeps_every_sample(layout):
    with tempfile.TemporaryDirectory() as parent:
        folders, out = two_sets(Path(parent), layout), Path(parent) / "out"
        merge(folders, out)
        assert verify(out, full=True).problems == []
        expected = {key: sample for folder in folders for key, sample in read_samples(folder, "train").items()}
        found = read_samples(out, "train")
        assert list(found) == list(expected)
        assert found == expected
        require_correct_ledger(out)
        assert [entry.num_samples for entry in load_manifest(out).shards] == [4, 4, 1]


@pytest.mark.parametrize("layout", [CLASSES, MULTI])
def test_class_names_are_merged_and_labels_renumbered(tmp_path, layout):
    names = (["cat", "dog", "eel"], ["dog", "fox", "cat"])
    folders = two_sets(tmp_path, layout, names)
    united = merge(folders, tmp_path / "out").class_names
    assert united == ["cat", "dog", "eel", "fox"]
    found = read_samples(tmp_path / "out", "train")
    for folder, old in zip(folders, names, strict=True):
        for key, sample in read_samples(folder, "train").items():
            assert meaning(found[key].label, united) == meaning(sample.label, old)
    assert verify(tmp_path / "out", full=True).problems == []


def meaning(label: np.ndarray, names: list[str]) -> set[str]:
    if np.ndim(label):
        return {names[column] for column in np.flatnonzero(label)}
    return {names[label]} if label >= 0 else set()


def test_equal_keys_are_refused_or_renamed(tmp_path):
    for number, name in enumerate("ab"):
        write_any_set(tmp_path / name, CLASSES, {"train": [3], "test": [1]}, seed=number)
    folders = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(CallError, match=r"\d keys occur twice in split '(train|test)': 'photo 0\.jpg'.*; give"):
        merge(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    merge(folders, tmp_path / "out", prefix=True)
    keys = list(read_samples(tmp_path / "out", "test"))
    assert keys == ["a/photo 0.jpg", "b/photo 0.jpg"]
    require_correct_ledger(tmp_path / "out")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (SampleLayout(make_spec(2, bits=7), (2, 2, 3), CLASSES.labels), r"has spec\.bits 8, but .* has 7; merge"),
        (
            SampleLayout(make_spec(2), (2, 2, 4), CLASSES.labels),
            r"has latent_shape \[2, 2, 3\], but .* \[2, 2, 4\]",
        ),
        (SampleLayout(make_spec(2), (2, 2, 3), MULTI.labels), "has label_kind 'class', but .* has 'multilabel'"),
    ],
)
def test_incompatible_data_sets(tmp_path, other, message):
    write_any_set(tmp_path / "a", CLASSES, {"train": [1]})
    try:
        write_any_set(tmp_path / "b", other, {"train": [1]}, seed=1)
    except CallError:
        write_any_set(tmp_path / "b", other, {"train": [0]}, seed=1)  # 8-bit codes do not fit into 7 bits
    with pytest.raises(CallError, match=message):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    with pytest.raises(CallError, match="merging 1 data set; name two or more"):
        merge([tmp_path / "a"], tmp_path / "out")


def test_merging_again_resumes_or_changes_nothing(tmp_path, monkeypatch):
    folders = two_sets(tmp_path, CLASSES)
    merge(folders, tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    for first in range(0, 150, 25):
        with monkeypatch.context() as patch:
            faults = Faults(patch, tmp_path / f"{first}", "killed")
            faults.first = first
            with pytest.raises(KilledError):
                merge(folders, tmp_path / f"{first}")
        merge(folders, tmp_path / f"{first}")
        assert contents(tmp_path / f"{first}") == expected
    merge(folders, tmp_path / "undisturbed")
    assert contents(tmp_path / "undisturbed") == expected
    with pytest.raises(CallError, match="holds another data set; give a new or empty folder"):
        merge(folders[::-1], tmp_path / "undisturbed")


@settings(max_examples=10, deadline=None, derandomize=True)
@given(layouts(), st.integers(0, 3))
def test_splitting_keeps_every_sample_in_order(layout, seed):
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "set"
        write_any_set(folder, layout, {"train": [4, 4, 2], "other": [2]})
        before, other = read_samples(folder, "train"), read_samples(folder, "other")
        split_in_place(folder, SplitConfig({"train": 0.6, "test": 0.4}, split="train", seed=seed))
        assert verify(folder, full=True).problems == []
        assert not (folder / "_work").exists()
        parts = [read_samples(folder, "train"), read_samples(folder, "test")]
        assert [len(part) for part in parts] == [6, 4]
        for part in parts:
            assert list(part) == [key for key in before if key in part]
        assert {**parts[0], **parts[1]} == before
        assert read_samples(folder, "other") == other
        require_correct_ledger(folder)


def test_splitting_is_seeded_and_again_changes_nothing(tmp_path):
    choices = []
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(choices)}"
        write_any_set(folder, CLASSES, {"train": [20]})
        config = SplitConfig({"train": 0.5, "test": 0.5}, seed=seed)
        split_in_place(folder, config)
        before = contents(folder)
        split_in_place(folder, SplitConfig({"train": 0.5, "test": 0.5}, "train", seed=seed))
        assert contents(folder) == before
        choices.append(list(read_samples(folder, "test")))
    assert choices[0] == choices[1] != choices[2]


def test_one_split_as_a_data_set(tmp_path):
    write_any_set(tmp_path / "set", CLASSES, {"train": [3, 2], "test": [2]})
    take_split(tmp_path / "set", "train", tmp_path / "out")
    assert verify(tmp_path / "out", full=True).problems == []
    assert read_samples(tmp_path / "out", "train") == read_samples(tmp_path / "set", "train")
    names = [entry.name for entry in load_manifest(tmp_path / "set").shards_of("train")]
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "set" / name).read_bytes() for name in names)
    rows = pq.read_table(tmp_path / "out/ledger.parquet").to_pylist()
    assert {row["split"] for row in rows} == {"train"}
    assert [row["key"] for row in rows if row["shard"] is None] == ["broken.jpg"]
    require_correct_ledger(tmp_path / "out")
    before = contents(tmp_path / "out")
    take_split(tmp_path / "set", "train", tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_equal_values_of_a_column_stay_together(tmp_path):
    """All samples have the same `num_bytes`, so that one split would be empty; each has its own `sha256`."""
    write_any_set(tmp_path, CLASSES, {"train": [6]})
    shares = {"train": 0.5, "test": 0.5}
    with pytest.raises(CallError, match=r"split '(train|test)' would be empty"):
        split_in_place(tmp_path, SplitConfig(shares, by="num_bytes"))
    with pytest.raises(CallError, match=r"unknown column 'sha'; .*the ledger has split, key"):
        split_in_place(tmp_path, SplitConfig(shares, by="sha"))
    assert split_in_place(tmp_path, SplitConfig(shares, by="sha256")).splits["test"].num_samples == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shares": {"train": 0.5, "test": 0.6}}, r"the shares 0\.5, 0\.6 add up to 1\.1, expected 1"),
        ({"shares": {"train": 1.0}}, "share of split 'train' is 1; expected a number above 0 and below 1"),
        ({"shares": {"a/b": 0.5, "c": 0.5}}, "split name 'a/b'; expected letters"),
        ({"shares": {"a": 0.5, "b": 0.5}}, "has the splits test, train; name the one to divide"),
        ({"shares": {"a": 0.5, "test": 0.5}, "split": "train"}, "already has a split 'test'; give the new one another"),
        ({"shares": {"a": 0.5, "b": 0.5}, "split": "trian"}, "unknown split 'trian'; nearest: train"),
    ],
)
def test_refusals_of_split(tmp_path, config, message):
    write_any_set(tmp_path, CLASSES, {"train": [3], "test": [2]})
    before = contents(tmp_path)
    with pytest.raises(CallError, match=message):
        split_in_place(tmp_path, SplitConfig(**config))
    assert contents(tmp_path) == before


@given(st.lists(st.integers(-1, 4), max_size=80), st.sampled_from([(0.8, 0.2), (0.5, 0.3, 0.2), (0.9, 0.05, 0.05)]))
def test_every_class_is_divided_by_the_shares(labels, shares):
    hashes = np.random.default_rng(0).integers(0, 2**63, len(labels)).astype(np.uint64)
    labels = np.array(labels, np.int64)
    splits = assign_stratified(hashes, labels, shares)
    totals = np.bincount(splits, minlength=len(shares))
    assert np.abs(totals - len(labels) * np.array(shares)).max() < 1.5
    for label in set(labels.tolist()):
        counts = np.bincount(splits[labels == label], minlength=len(shares))
        assert np.abs(counts - (labels == label).sum() * np.array(shares)).max() < 2.5


def test_groups_stay_together_in_their_shares():
    groups = np.repeat(np.arange(100, dtype=np.uint64), 3)
    splits = assign_groups(groups, groups, np.zeros(300, np.int64), [0.7, 0.3])
    assert (splits.reshape(100, 3) == splits[::3, None]).all()
    assert np.bincount(splits).tolist() == [210, 90]
