"""Files and splits whose writers chose other widths for the same columns are one data set; others are told apart."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import labels, message

CATEGORIES = pa.dictionary(pa.int8(), pa.string())


@pytest.fixture
def write(tmp_path):
    """Write two files with a column of two types, and return the text that names both as a source."""

    def written(first: pa.Array, second: pa.Array, column: str = "label") -> str:
        for name, values in (("train-0.parquet", first), ("train-1.parquet", second)):
            images = [encoded(picture(number)) for number in range(len(values))]
            table = pa.table({"image": images, column: values})
            pq.write_table(table if name == "train-0.parquet" else table.select([column, "image"]), tmp_path / name)
        return f"parquet:{tmp_path}"

    return written


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.int32(), pa.int64()),
        (pa.int64(), pa.int8()),
        (pa.uint8(), pa.int16()),
        (pa.int64(), pa.uint64()),
        (pa.null(), pa.int8()),
        (pa.int8(), pa.null()),
        (pa.dictionary(pa.int8(), pa.int64()), pa.int32()),
    ],
)
def test_class_numbers(write, first, second):
    values = [pa.array([None, None] if kind == pa.null() else [3, 12], kind) for kind in (first, second)]
    source = open_source(write(*values))
    assert source.class_names == ["3", "12"]
    assert labels(source) == [-1 if kind == pa.null() else number for kind in (first, second) for number in (0, 1)]


@pytest.mark.parametrize(
    "second", [pa.large_string(), pa.string_view(), CATEGORIES, pa.dictionary(pa.int32(), pa.large_string())]
)
@pytest.mark.parametrize("swapped", [False, True])
def test_class_names(write, second, swapped):
    values = [pa.array(["b", "a"], pa.string()), pa.array(["a", "c"], pa.string()).cast(second)]
    source = open_source(write(*(values[::-1] if swapped else values)))
    assert source.class_names == ["a", "b", "c"]
    assert labels(source) == ([0, 2, 1, 0] if swapped else [1, 0, 0, 2])


@pytest.mark.parametrize("second", [pa.list_(pa.int64()), pa.large_list(pa.int8()), pa.list_(pa.int64(), 2)])
@pytest.mark.parametrize("swapped", [False, True])
def test_lists_of_classes(write, second, swapped):
    values = [pa.array([[0], [1]], pa.list_(pa.int32())), pa.array([[0, 1], [1, 2]], second)]
    source = open_source(write(*(values[::-1] if swapped else values)))
    assert (source.listing.label_kind, source.class_names) == ("multilabel", ["0", "1", "2"])
    expected = [[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]]
    assert labels(source) == (expected[2:] + expected[:2] if swapped else expected)


@pytest.mark.parametrize(("first", "second"), [(pa.float32(), pa.float64()), (pa.float16(), pa.float32())])
def test_targets(write, first, second):
    text = write(pa.array([0.5, 1], first), pa.array([2, 3], second), "age")
    assert labels(open_source(f"{text}?target=age")) == [[0.5], [1], [2], [3]]


@pytest.mark.parametrize("second", [pa.large_binary(), pa.binary_view()])
@pytest.mark.parametrize("swapped", [False, True])
def test_images(tmp_path, second, swapped):
    for number, kind in enumerate((second, pa.binary()) if swapped else (pa.binary(), second)):
        pq.write_table(pa.table({"image": pa.array([b"1" * (number + 1)], kind)}), tmp_path / f"{number}.parquet")
        rows = pa.StructArray.from_arrays([pa.array([b"22"], kind), pa.array(["a.png"])], ["bytes", "path"])
        pq.write_table(pa.table({"image": rows}), tmp_path / f"{number}.structs")
    source = open_source(f"parquet:{tmp_path}")
    assert [source.read("train", row) for row in range(2)] == [b"1", b"11"]
    assert [source.num_bytes("train", row) for row in range(2)] == [1, 2]
    source = open_source(f"parquet:{tmp_path}/*.structs")
    assert [source.read("train", row) for row in range(2)] == [b"22", b"22"]


def test_kept_columns_in_the_ledger(write, tmp_path, rgb_codec):
    text = write(pa.array([1, None], pa.int32()), pa.array([2**40, 3], pa.int64()), "number")
    source = open_source(f"{text}?keep=number&group=number")
    assert source.listing.splits["train"].columns["number"].to_pylist() == [1, None, 2**40, 3]
    prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert pq.read_table(tmp_path / "out/ledger.parquet")["number"].to_pylist() == [1, None, 2**40, 3]
    text = write(pa.array(["a", "b"]), pa.array(["c", None]).cast(CATEGORIES), "word")
    assert open_source(f"{text}?keep=word").listing.splits["train"].columns["word"].to_pylist() == ["a", "b", "c", None]
    text = write(pa.array([1, 2], pa.int64()), pa.array([2**63, 3], pa.uint64()), "number")
    assert "number: Integer value 9223372036854775808 not in range" in message(f"{text}?keep=number")


def test_types_stay_where_all_files_have_the_same(write):
    text = write(pa.array([1, 2], pa.int16()), pa.array([3, 4], pa.int16()), "number")
    assert open_source(f"{text}?keep=number").listing.splits["train"].columns.schema.field("number").type == pa.int16()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.int64(), pa.string()),
        (pa.int64(), pa.float64()),
        (pa.bool_(), pa.int8()),
        (pa.string(), pa.binary()),
        (pa.list_(pa.field("element", pa.int64())), pa.int64()),
        (pa.list_(pa.field("element", pa.int64())), pa.list_(pa.field("element", pa.string()))),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (CATEGORIES, pa.int64()),
    ],
)
def test_other_types_are_named_with_file_and_column(write, tmp_path, first, second):
    said = message(write(pa.nulls(2, first), pa.nulls(2, second), "kind"))
    assert said == (
        f"column 'kind' is {second} in '{tmp_path}/train-1.parquet', but {first} in '{tmp_path}/train-0.parquet'; give "
        "parts of one data set, or cast the column"
    )


def test_files_of_other_splits_are_compared_too(tmp_path):
    for name, kind in (("train", pa.int32()), ("test", pa.int64())):
        pq.write_table(pa.table({"image": [b"-"], "label": pa.array([1], kind)}), tmp_path / f"{name}.parquet")
    assert open_source(f"parquet:{tmp_path}").class_names == ["1"]
    pq.write_table(pa.table({"image": [b"-"], "label": ["1"]}), tmp_path / "val.parquet")
    assert "column 'label' is string in '" in message(f"parquet:{tmp_path}")


def test_class_labels_of_several_widths(tmp_path):
    features = Features({"image": Value("binary"), "label": ClassLabel(names=["x", "y"])})
    table = pa.table({"image": [b"-", b"-"], "label": pa.array([1, 0], pa.int64())}).cast(features.arrow_schema)
    pq.write_table(table, tmp_path / "a.parquet")
    narrow = table.cast(pa.schema([table.schema.field("image"), pa.field("label", pa.int8())], table.schema.metadata))
    pq.write_table(narrow, tmp_path / "b.parquet")
    text = f"parquet:{tmp_path}"
    source = open_source(text)
    assert (source.class_names, labels(source)) == (["x", "y"], [1, 0, 1, 0])


def test_kept_columns_of_splits_of_a_saved_data_set(tmp_path, rgb_codec):
    def rows(kind: str, number: object) -> Dataset:
        features = Features({"img": Image(), "number": Value(kind)})
        return Dataset.from_dict({"img": [picture(0)], "number": [number]}, features=features)

    DatasetDict({"train": rows("int32", 1), "test": rows("int64", 2**40)}).save_to_disk(tmp_path / "saved")
    source = open_source(f"hf:{tmp_path / 'saved'}?keep=number")
    prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert pq.read_table(tmp_path / "out/ledger.parquet")["number"].to_pylist() == [1, 2**40]
    DatasetDict({"train": rows("int32", 1), "test": rows("string", "x")}).save_to_disk(tmp_path / "odd")
    assert message(f"hf:{tmp_path / 'odd'}?keep=number") == (
        "column 'number' is string in split 'test' of data set 'odd', but int32 in split 'train' of data set 'odd'; "
        "give parts of one data set, or cast the column"
    )


def test_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array([b"-"]), pa.array([1]), pa.array([2])], ["image", "a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    assert "a.parquet' has several columns called 'a'; rename them" in message(f"parquet:{tmp_path}")
