"""`drop` removes the given samples, and only these, from data sets of any layout."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep.ledger.table import SCHEMA, write_ledger
from datasets_prep.upkeep.drop import drop
from tests.support.any_samples import layouts
from tests.support.any_sets import read_samples, write_any_set
from tests.support.small_sets import make_spec
from tests.support.trees import contents
from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import (
    FileEntry,
    LabelSpec,
    SampleLayout,
    load_manifest,
    load_provenance,
    open_shard,
    verify,
    write_manifest,
)

LAYOUT = SampleLayout(make_spec(2), (2, 2, 3), LabelSpec("class", 3))
KEYS = {"train": ["a", "b", "c", "d", "e"], "test": ["f", "a"]}


@pytest.fixture
def folder(tmp_path) -> Path:
    write_any_set(tmp_path / "set", LAYOUT, {"train": [3, 2], "test": [2]}, keys=KEYS)
    return tmp_path / "set"


def ledger_rows(folder: Path) -> list[dict]:
    return pq.read_table(folder / "ledger.parquet").to_pylist()


def keys_by_location(folder: Path) -> dict[tuple[str, int], str]:
    """Map shard and row of every stored sample to its key, from the shards."""
    manifest, found = load_manifest(folder), {}
    for entry in manifest.shards:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        found |= {(entry.name, row): key for row, key in enumerate(shard.keys(range(len(shard))))}
    return found


def hidden(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(layouts(), st.lists(st.integers(0, 4), max_size=4), st.data())
def test_remaining_samples_do_not_change(layout, sizes, data):
    total = sum(sizes)
    keys = {"train": [f"{row} é" for row in range(total)], "test": ["x"]}
    gone = data.draw(st.sets(st.sampled_from([*keys["train"], "x"]), min_size=1))
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "set"
        write_any_set(folder, layout, {"train": sizes, "test": [1]}, keys=keys)
        before = {split: read_samples(folder, split) for split in keys}
        result = drop(folder, gone)
        assert result.num_dropped == len(gone)
        assert verify(folder, full=True).problems == []
        for split in keys:
            after = read_samples(folder, split)
            assert list(after) == [key for key in before[split] if key not in gone]
            assert all(after[key] == before[split][key] for key in after)
        stored = [row for row in ledger_rows(folder) if row["shard"] is not None]
        keys = {(row["shard"], row["row"]): row["key"] for row in stored}
        assert keys == keys_by_location(folder)
        rows = [row for row in ledger_rows(folder) if row["reason"] == "dropped"]
        assert {row["key"] for row in rows} == {hidden(key) for key in gone}


def test_ledger_manifest_and_provenance_are_updated(folder):
    result = drop(folder, ["b", "c", "broken.jpg"], split="train")
    manifest = load_manifest(folder)
    assert (result.num_dropped, result.num_already, result.num_copies) == (2, 0, 0)
    assert [(entry.name, entry.num_samples) for entry in manifest.shards_of("train")] == [
        ("train-00000.safetensors", 1),
        ("train-00001.safetensors", 2),
    ]
    assert manifest.splits["train"].num_samples == 3
    assert manifest.ledger["num_stored"] == 5
    assert manifest.ledger["num_dropped"] == 3
    assert manifest.ledger["num_quarantined"] == 1
    blank = {"label": -1, "num_bytes": 0, **dict.fromkeys(("sha256", "shard", "row", "duplicate_of"))}
    rows = ledger_rows(folder)
    assert rows[1] == {"split": "train", "key": hidden("b"), "reason": "dropped", **blank}
    assert [row["row"] for row in rows if row["shard"] == "train-00000.safetensors"] == [0]
    assert [row["key"] for row in rows if row["reason"] == "cannot be decoded"] == ["broken.jpg"]
    (edit,) = load_provenance(folder)["edits"]
    assert (edit["command"], edit["num_samples"]) == ("drop", 2)
    assert load_provenance(folder)["created"] == "long ago"


def test_a_dropped_name_is_removed_everywhere(tmp_path):
    keys = {"train": ["Jane Doe.jpg", "b", "c"]}
    write_any_set(tmp_path / "set", LAYOUT, {"train": [3]}, keys=keys)
    drop(tmp_path / "set", ["Jane Doe.jpg"])
    for path in (tmp_path / "set").rglob("*.*"):
        assert b"Jane" not in path.read_bytes(), path
    assert all("Jane" not in str(row) for row in ledger_rows(tmp_path / "set"))


def with_same_content(folder: Path, *keys: str) -> None:
    """Mark these samples of the train split in the ledger as duplicates of the first of them."""
    rows = ledger_rows(folder)
    same = [row for row in rows if row["key"] in keys and row["split"] == "train"]
    for row in same:
        row["sha256"] = "a" * 64
    for row in same[1:]:
        row["duplicate_of"] = f"train/{same[0]['key']}"
    path, manifest = folder / "ledger.parquet", load_manifest(folder)
    write_ledger(path, [pa.Table.from_pylist(rows, schema=SCHEMA)], [], SCHEMA)
    manifest.files["ledger.parquet"] = FileEntry(path.stat().st_size, sha256_file(path))
    write_manifest(folder, manifest)


def test_copies_of_a_dropped_sample_are_reported_and_lose_its_name(folder):
    with_same_content(folder, "b", "d", "e")
    assert drop(folder, ["b"]).num_copies == 2
    marks = {row["key"]: row["duplicate_of"] for row in ledger_rows(folder) if row["split"] == "train"}
    assert marks["d"] is None
    assert marks["e"] == "train/d"
    assert load_manifest(folder).ledger["num_duplicates"] == 2  # that, and test/a
    drop(folder, ["d", "f"])
    drop(folder, ["a"], split="test")
    assert load_manifest(folder).ledger["num_duplicates"] == 0
    assert {row["duplicate_of"] for row in ledger_rows(folder)} == {None}


def test_the_same_call_again_changes_nothing(folder):
    drop(folder, ["b", "f"])
    before = contents(folder)
    result = drop(folder, ["b", "f"])
    assert (result.num_dropped, result.num_already) == (0, 2)
    assert contents(folder) == before
    assert drop(folder, ["b", "c"]).num_dropped == 1


def test_a_whole_split_can_be_dropped(folder):
    drop(folder, ["f"])
    drop(folder, ["a"], split="test")
    manifest = load_manifest(folder)
    assert manifest.splits["test"].num_samples == 0
    assert manifest.shards_of("test") == []
    assert not (folder / "test-00000.safetensors").exists()
    assert not np.any(manifest.histograms["test"])
    assert verify(folder, full=True).problems == []


@pytest.mark.parametrize(
    ("keys", "split", "message"),
    [
        (["b", "x", "y"], None, r"2 of 3 keys are not in .*: 'x', 'y'; nothing was changed; ledger\.parquet lists the"),
        ([*"hijklmn"], None, r"7 of 7 keys are not in .*: 'h', 'i', 'j', 'k', 'l', …; nothing was changed"),
        (["b"], "test", "1 of 1 keys are not in"),
        (["\udcff.jpg"], None, "1 of 1 keys are not in"),
        (["a"], None, r"1 keys are in several splits: 'a' \(test, train\); select one split at a time"),
        (["a"], "tset", "has no split 'tset'; it has test, train"),
        ([], None, "no keys to drop; give some, or a file of them"),
    ],
)
def test_refusals_come_before_any_change(folder, keys, split, message):
    before = contents(folder)
    with pytest.raises(CallError, match=message):
        drop(folder, keys, split=split)
    assert contents(folder) == before


def test_a_damaged_shard_gets_no_new_checksums(folder):
    path = folder / "train-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1  # a code
    path.write_bytes(data)
    before = contents(folder)
    with pytest.raises(DamagedError, match=r"train-00000\.safetensors: SHA-256 is .*; `cdl repair .*` first"):
        drop(folder, ["b"])
    assert contents(folder) == before


def test_a_folder_that_is_not_a_data_set(tmp_path):
    with pytest.raises(CallError, match="is not a data set"):
        drop(tmp_path, ["a"])
    assert not list(tmp_path.iterdir())
