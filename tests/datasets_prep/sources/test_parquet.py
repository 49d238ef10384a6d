from __future__ import annotations

import io
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from datasets_prep import holdout, open_source, prepare
from datasets_prep.job.config import PrepareConfig
from datasets_prep.sources.folders import parquet
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import message
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import verify


@pytest.fixture
def files(tmp_path):
    """Two files of 150 and 70 rows, in row groups of 100; the image of row i is the text of i."""

    def write(columns=lambda rows: {"label": [f"c{row % 3}" for row in rows]}) -> Path:
        for name, rows in (("train-0.parquet", range(150)), ("train-1.parquet", range(150, 220))):
            images = [str(row).encode() for row in rows]
            pq.write_table(pa.table({"image": images, **columns(rows)}), tmp_path / name, row_group_size=100)
        return tmp_path

    return write


@pytest.mark.parametrize("rows", [range(220), range(219, -1, -1), [0, 63, 64, 99, 100, 149, 150, 219, 64, 0]])
def test_rows_in_any_order(files, rows):
    source = open_source(f"parquet:{files()}")
    assert [source.read("train", row) for row in rows] == [str(row).encode() for row in rows]
    assert source.num_bytes("train", 157) == 3
    assert source.label("train", 157) == 157 % 3
    with pytest.raises(IndexError):
        source.read("train", 220)


def test_rows_in_order_are_decoded_once(files, monkeypatch):
    source = open_source(f"parquet:{files()}")
    decoded = []
    batches = pq.ParquetFile.iter_batches

    def counted(self, *arguments, **options):
        for batch in batches(self, *arguments, **options):
            decoded.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    for row in range(220):
        source.read("train", row)
    assert sum(decoded) == 220
    assert max(decoded) == parquet.RUN_ROWS


def test_parts_name_only_the_files_they_need(files):
    source = open_source(f"parquet:{files()}")
    part = source.part("train", 151, 160)
    data = pickle.dumps(part)
    assert len(data) < 1000
    assert b"train-0" not in data
    again = pickle.loads(data)
    assert [again[2], *again[-2:]] == [b"153", b"158", b"159"]
    assert list(source.part("train", 148, 152)) == [b"148", b"149", b"150", b"151"]


def test_kinds_of_labels_groups_and_kept_columns(files):
    columns = {"tags": lambda r: ["a"] * (r % 3), "age": lambda r: r / 2, "patient": lambda r: r // 10, "note": str}
    folder = files(lambda rows: {name: [make(row) for row in rows] for name, make in columns.items()})
    source = open_source(f"parquet:{folder}?label=tags&group=patient&keep=note,age")
    listing = source.listing.splits["train"]
    assert (source.listing.label_kind, source.class_names) == ("multilabel", ["a"])
    assert listing.labels[:4].tolist() == [[0], [1], [1], [0]]
    assert listing.columns.column_names == ["note", "age"]
    assert listing.columns["note"][219].as_py() == "219"
    parted = holdout(source, 0.2)
    train, test = (parted.listing.splits[split] for split in ("train", "test"))
    assert not set(train.groups) & set(test.groups)
    assert test.columns["note"].to_pylist() == [str(int(key)) for key in test.keys]
    source = open_source(f"parquet:{folder}?target=age,patient")
    assert source.listing.label_kind == "regression"
    assert source.listing.splits["train"].labels[[0, 219]].tolist() == [[0, 0], [109.5, 21]]
    assert "column 'note' of data set '" in message(f"parquet:{folder}?target=note")
    assert "column 'age' of data set '" in message(f"parquet:{folder}?label=age")
    assert "holds numbers such as 0.5, which are not classes; choose regression targets with ?target=age" in message(
        f"parquet:{folder}?label=age"
    )
    assert "has no column 'x'" in message(f"parquet:{folder}?keep=x")
    assert "source options label and target; give one" in message(f"parquet:{folder}?label=tags&target=age")


@pytest.fixture
def photos(tmp_path):
    """Write a Parquet file of eight images, one of them broken, with further columns."""

    def write(columns) -> str:
        images = []
        for number in range(8):
            with io.BytesIO() as stream:
                picture(number, 40, 36).save(stream, "PNG")
                images.append(stream.getvalue() if number != 3 else b"no image")
        pq.write_table(pa.table({"image": images, **columns}), tmp_path / "train.parquet", row_group_size=3)
        return f"parquet:{tmp_path / 'train.parquet'}"

    return write


def test_targets_are_stored(photos, rgb_codec, tmp_path):
    ages = [float(number) / 2 if number != 5 else None for number in range(8)]
    source = open_source(f"{photos({'age': ages})}?target=age")
    manifest = prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, shard_samples=3, workers=0))
    assert (manifest.label_kind, manifest.target_names, manifest.class_names) == ("regression", ["age"], None)
    labels = open_latents(tmp_path / "out").labels
    np.testing.assert_array_equal(labels, np.float32([0, 0.5, 1, 2, np.nan, 3, 3.5]))
    assert verify(tmp_path / "out", full=True).problems == []


def test_multiple_labels_are_stored(photos, rgb_codec, tmp_path):
    lists = [["a"], ["a", "b"], [], ["b"], ["b"], ["a"], ["c"], ["a", "c"]]
    source = open_source(photos({"label": lists}))
    manifest = prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, shard_samples=3, workers=0))
    assert (manifest.label_kind, manifest.class_names) == ("multilabel", ["a", "b", "c"])
    assert manifest.splits["train"].class_counts == [4, 2, 2]
    assert open_latents(tmp_path / "out").labels[1].tolist() == [1, 1, 0]


def test_kept_columns_are_in_the_ledger(photos, rgb_codec, tmp_path):
    columns = {"camera": [f"c{number}" for number in range(8)], "row": list(range(8))}
    source = open_source(f"{photos(columns)}?keep=camera,row")
    prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, shard_samples=3, workers=0))
    ledger = pq.read_table(tmp_path / "out/ledger.parquet")
    assert ledger["camera"].to_pylist() == columns["camera"]
    assert ledger["source_row"].to_pylist() == columns["row"]
    assert ledger["row"].null_count == 1


def test_lists_of_class_labels(tmp_path):
    features = Features({"image": Image(), "labels": List(ClassLabel(names=["x", "y", "z"]))})
    rows = {"image": [picture(0), picture(1)], "labels": [[2, None, 0], []]}
    data = Dataset.from_dict(rows, features=features)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    for text in (f"parquet:{tmp_path}/a.parquet", f"hf:{tmp_path / 'saved'}"):
        source = open_source(text)
        assert (source.listing.label_kind, source.class_names) == ("multilabel", ["x", "y", "z"])
        assert source.listing.splits["train"].labels.tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("several", [False, True])
def test_splits_with_different_class_numbers(tmp_path, several):
    def rows(names: list[str], column: str = "label") -> Dataset:
        kind = List(ClassLabel(names=names)) if several else ClassLabel(names=names)
        features = Features({"image": Image(), column: kind})
        return Dataset.from_dict({"image": [picture(0)], column: [[0] if several else 0]}, features=features)

    splits = DatasetDict({"train": rows(["cat", "dog"]), "test": rows(["dog", "cat"])})
    splits.save_to_disk(tmp_path / "saved")
    for split, part in splits.items():
        part.to_parquet(tmp_path / f"{split}.parquet")
    said = (
        "column 'label' of data set 'saved' has the classes ['cat', 'dog'], but split 'test' has ['dog', 'cat']; cast"
    )
    assert said in message(f"hf:{tmp_path / 'saved'}")
    assert "train.parquet' has ['cat', 'dog']; cast all to the same ClassLabel" in message(
        f"parquet:{tmp_path}/*.parquet"
    )
    DatasetDict({"train": rows(["cat"]), "test": rows(["cat"], "kind")}).save_to_disk(tmp_path / "uneven")
    assert "'uneven, split test' has no column 'label'; its columns are image, kind" in message(f"hf:{tmp_path}/uneven")


@pytest.mark.parametrize("labeled", ["train", "test"])
def test_files_of_a_split_without_labels(tmp_path, labeled):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    rows = Dataset.from_dict({"image": [picture(0), picture(1)], "label": [1, 0]}, features=features)
    for split in ("train", "test"):
        part = rows if split == labeled else rows.remove_columns("label")
        part.to_parquet(tmp_path / f"{split}.parquet")
    source = open_source(f"parquet:{tmp_path}/*.parquet")
    assert source.class_names == ["cat", "dog"]
    found = {split: listing.labels.tolist() for split, listing in source.listing.splits.items()}
    assert found.pop(labeled) == [1, 0]
    assert list(found.values()) == [[-1, -1]]
    assert all(source.num_bytes(split, 1) > 0 for split in source.split_names)


def test_class_numbers_without_a_name(tmp_path):
    features = Features({"image": Value("binary"), "label": ClassLabel(names=["x"])})
    plain = pa.table({"image": [b"-", b"-"], "label": pa.array([0, 4], pa.int64())})
    pq.write_table(plain.cast(features.arrow_schema), tmp_path / "a.parquet")
    assert "label 4 of column 'label'; expected 0 to 0; check the labels" in message(f"parquet:{tmp_path}/a.parquet")


def test_files_with_other_columns_or_without_rows(files, tmp_path):
    folder = files()
    pq.write_table(pa.table({"image": [b"-"], "kind": ["a"]}), folder / "train-2.parquet")
    said = message(f"parquet:{folder}")
    assert said.startswith(f"'{folder}/train-2.parquet' has other columns than '{folder}/train-0.parquet': ")
    assert said.endswith(": no 'label' and also 'kind'; give parts of one data set")
    pq.write_table(pa.table({"image": [1], "label": ["a"]}), tmp_path / "x.parquet")
    assert "column 'image' of data set '" in message(f"parquet:{tmp_path}/x.parquet?image=image")
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "y.parquet")
    assert "has no rows; give one with images" in message(f"parquet:{tmp_path}/y.parquet")


def test_removed_files(files):
    source = open_source(f"parquet:{files()}")
    assert source.absence() is None
    path = files() / "train-1.parquet"
    path.unlink()
    assert source.absence() == f"the file '{path}'"


def test_files_at_a_url_are_not_read_for_sizes(files):
    system = fsspec.filesystem("memory")
    system.put(str(files() / "train-0.parquet"), "/tables/train-0.parquet")
    source = open_source("parquet:memory://tables/*.parquet")
    assert source.read("train", 120) == b"120"
    assert source.num_bytes("train", 120) == 0
    assert source.label("train", 4) == 1


def test_files_damaged_or_changed_after_opening(files):
    folder = files()
    system = fsspec.filesystem("memory")
    whole = bytearray((folder / "train-1.parquet").read_bytes())
    whole[4:40] = bytes(36)  # where the first page begins
    system.pipe("/damaged/train-0.parquet", bytes(whole))
    source = open_source("parquet:memory://damaged/*.parquet")
    with pytest.raises(CallError, match=r"train-0\.parquet' cannot be read: .*; restore or omit it"):
        source.read("train", 0)
    source = open_source(f"parquet:{folder}")
    (folder / "train-1.parquet").write_bytes((folder / "train-0.parquet").read_bytes())
    with pytest.raises(CallError, match=r"train-1\.parquet' has 150 rows, 70 were listed"):
        source.read("train", 160)


def test_missing_images(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": b"1", "path": None}, None, {"bytes": None, "path": str(tmp_path / "a.png")}], kind)
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    source = open_source(f"parquet:{tmp_path}/a.parquet?absolute=1")
    assert [source.read("train", row) for row in range(3)] == [b"1", b"", tmp_path / "a.png"]
    assert [source.num_bytes("train", row) for row in range(3)] == [1, 0, 0]


def test_saved_data_sets_are_pickled_as_their_files(tmp_path):
    images = [np.random.default_rng(seed).bytes(100_000) for seed in range(4)]
    features = Features({"image": Image(decode=False)})
    rows = [{"bytes": data, "path": None} for data in images]
    Dataset.from_dict({"image": rows}, features=features).save_to_disk(tmp_path / "saved")
    part = open_source(f"hf:{tmp_path / 'saved'}").part("train", 1, 3)
    data = pickle.dumps(part)
    assert len(data) < 20_000
    assert list(pickle.loads(data)) == images[1:3]
