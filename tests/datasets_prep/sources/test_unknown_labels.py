"""Nothing, null, NaN and -1 are unknown labels in every source; what has no labels says what was looked for."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from datasets_prep import IterableSource, MapSource, PrepareConfig, open_source, open_stream, prepare
from datasets_prep.forecast import forecast
from datasets_prep.sources.core.stream_labels import ClassNumbers
from tests.datasets_prep.sources.test_tars import tar_bytes
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import labels, message
from walloc_cdl.errors import CallError

NAN = float("nan")
IMAGE = encoded(picture(0))


@pytest.fixture
def parquet(tmp_path):
    def write(**columns) -> str:
        count = len(next(iter(columns.values())))
        pq.write_table(pa.table({"image": [IMAGE] * count, **columns}), tmp_path / "rows.parquet")
        return f"parquet:{tmp_path / 'rows.parquet'}"

    return write


@pytest.fixture
def table(tmp_path):
    def write(header: str, *rows: str) -> str:
        lines = [f"{number}.png,{row}" for number, row in enumerate(rows)]
        (tmp_path / "list.csv").write_text("\n".join([f"path,{header}", *lines]) + "\n")
        return f"csv:{tmp_path / 'list.csv'}"

    return write


@pytest.fixture
def tar(tmp_path):
    def write(*files: tuple[str, bytes]) -> str:
        (tmp_path / "a.tar").write_bytes(tar_bytes(list(files)))
        return f"webdataset:{tmp_path / 'a.tar'}"

    return write


@pytest.mark.parametrize("unknown", ["", "-1", "-1.0", "nan", "NaN", "null", "NULL"])
def test_texts_of_unknown_labels(unknown, table, tar, parquet):
    sources = [
        open_source(table("label", "cat", unknown, "dog")),
        open_source(parquet(label=["cat", unknown, "dog"])),
        MapSource([(IMAGE, "cat"), (IMAGE, unknown), (IMAGE, "dog")], name="x"),
        open_source(
            tar(
                *[
                    (f"{n}.{s}", d)
                    for n, t in enumerate(["cat", unknown, "dog"])
                    for s, d in (("png", IMAGE), ("cls", t.encode()))
                ]
            )
        ),
        open_source(
            tar(
                *[
                    (f"{n}.{s}", d)
                    for n, t in enumerate(["cat", unknown, "dog"])
                    for s, d in (("png", IMAGE), ("json", json.dumps({"k": t}).encode()))
                ]
            )
            + "?label=k"
        ),
    ]
    for source in sources:
        assert (source.class_names, labels(source)) == (["cat", "dog"], [0, -1, 1])
    assert ClassNumbers(["cat", "dog"]).number(unknown, "sample 0") == -1


@pytest.mark.parametrize("unknown", [None, NAN, -1, -1.0])
def test_numbers_of_unknown_labels(unknown, tar, parquet):
    columns = [pa.array([7, unknown, 3.0], pa.float64())]
    if unknown != unknown or unknown is None or isinstance(unknown, int):
        columns.append(pa.array([7, None if unknown != unknown else unknown, 3], pa.int64()))
    records = [{"k": 7}, {"k": unknown}, {"k": 3.0}]
    sources = [
        *(open_source(parquet(label=column)) for column in columns),
        MapSource([(IMAGE, 7), (IMAGE, unknown), (IMAGE, np.float32(3))], name="x"),
        open_source(
            tar(
                *[
                    (f"{n}.{s}", d)
                    for n, record in enumerate(records)
                    for s, d in (("png", IMAGE), ("json", json.dumps(record).encode()))
                ]
            )
            + "?label=k"
        ),
    ]
    for source in sources:
        assert (source.class_names, labels(source)) == (["3", "7"], [1, -1, 0])
    assert ClassNumbers(["cat", "dog"]).number(unknown, "sample 0") == -1
    assert ClassNumbers(["cat", "dog"]).number(1.0, "sample 0") == 1


def test_lists_and_targets_have_unknown_labels(table, parquet, tar):
    source = open_source(table("tags", "a|null", "-1", "b| NaN|") + "?label=tags&separator=|")
    assert (source.class_names, labels(source)) == (["a", "b"], [[1, 0], [0, 0], [0, 1]])
    source = open_source(parquet(label=[[1, -1], None, [2, None]]))
    assert (source.class_names, labels(source)) == (["1", "2"], [[1, 0], [0, 0], [0, 1]])
    record = json.dumps({"k": ["a", "", NAN, -1]}).encode()
    source = open_source(tar(("0.png", IMAGE), ("0.json", record)) + "?label=k")
    assert (source.class_names, labels(source)) == (["a"], [[1]])
    source = open_source(table("age", "null", "-1", "", "NaN", "2") + "?target=age")
    np.testing.assert_array_equal(np.ravel(labels(source)), [NAN, -1, NAN, NAN, 2])


def test_names_that_are_declared_are_classes():
    source = MapSource([(IMAGE, "null"), (IMAGE, None)], name="x", class_names=["null", "a"])
    assert (source.class_names, labels(source)) == (["null", "a"], [0, -1])
    assert ClassNumbers(["-1", "1"]).number("-1", "sample 0") == 0


@pytest.mark.parametrize("name", ["-1", "nan", "null"])
def test_folders_of_unknown_labels(make_folder, name):
    root = make_folder(splits=[""], classes=("cat", name, "dog"), each=2)
    source = open_source(str(root))
    assert source.class_names == ["cat", "dog"]
    assert sorted(labels(source)) == [-1, -1, 0, 0, 1, 1]
    assert source.notes == [f"2 images are in folders whose names mean an unknown label ({name}/00.png is the first)"]


def test_floats_that_are_not_whole_are_not_classes(parquet):
    ages = [0.5, 1.0, None]
    source = open_source(parquet(label=ages))
    assert (source.class_names, labels(source)) == (None, [-1, -1, -1])
    (note,) = source.notes
    assert "column 'label' of data set" in note
    assert "holds numbers such as 0.5, which are not classes; give ?target=label for regression" in note
    assert "choose regression targets with ?target=label" in message(parquet(label=ages) + "?label=label")
    with pytest.raises(CallError, match="expected an integer, a name or None"):
        ClassNumbers(["a"]).number(0.5, "sample 0")


def test_a_usable_column_precedes_one_of_floats(parquet):
    source = open_source(parquet(label=[1.0, None], labels=["a", "b"]))
    assert source.class_names == ["a", "b"]


def test_columns_without_labels_are_named(parquet, table, tmp_path):
    (note,) = open_source(parquet(**{"class": ["a", "b"], "id": [1, 2]})).notes
    assert "it has no column called label or labels, and none of ClassLabel; its columns are image (binary), " in note
    assert "class (string), id (int64); name one with ?label=COLUMN (classes) or ?target=COLUMN (numbers)" in note
    assert "its column 'label' holds List, which are not classes" in open_source(parquet(label=[[0.5]])).notes[0]
    (note,) = open_source(table("class,id", "a,1")).notes
    assert note.startswith(f"no labels in table '{tmp_path / 'list.csv'}': it has no column called label; its columns ")
    assert "are path, class, id; name one with ?label=COLUMN (classes) or ?target=COLUMN (numbers)" in note
    for text in (parquet(**{"class": ["a", "b"]}) + "?label=class", table("class", "a", "b") + "?label=class"):
        source = open_source(text)
        assert (source.class_names, source.notes) == (["a", "b"], [])


def test_labels_of_which_none_is_known(parquet, table, tar):
    for source in (
        open_source(parquet(label=pa.array([None, -1], pa.int64()))),
        open_source(table("label", "", "NaN")),
        open_source(tar(("0.png", IMAGE), ("0.cls", b"-1"))),
        MapSource([(IMAGE, None)], name="x"),
    ):
        assert source.class_names is None
        assert "has only unknown labels (null, None, NaN, -1 or empty)" in source.notes[0]


def test_tars_without_labels(tar):
    record = ("a.json", b'{"kind": "cat", "id": 3}')
    (note,) = open_source(tar(("a.png", IMAGE), record, ("a.txt", b"-"))).notes
    assert note.startswith(
        "no labels: a .cls beside each image was looked for, and beside the images are .json, .txt; "
    )
    assert "the first .json has the fields kind, id; name a field of a .json with ?label=FIELD" in note
    (note,) = open_source(tar(("a.png", IMAGE), record) + "?label=species").notes
    assert "the field 'species' of a .json beside each image was looked for" in note
    (note,) = open_source(tar(("a.png", IMAGE), ("a.json", b"{"))).notes
    assert "beside the images are .json; name a field" in note
    images, classes = [(f"{n}.png", IMAGE) for n in range(3)], [(f"{n}.cls", b"7") for n in range(3)]
    source = open_source(tar(*images, *classes))
    assert source.class_names is None
    assert source.notes[0].startswith("3 .cls members lie apart from their images (a.tar/0.cls is the first) and give ")
    assert "the members of a sample must be adjacent; write the tars again, sorted by name" in source.notes[0]
    (note,) = open_source(tar(("x.png", IMAGE), ("x.cls", b"1"), *images, *classes)).notes
    assert note.startswith("3 .cls members lie apart")


def test_streams_without_labels(tmp_path):
    (tmp_path / "photos").mkdir()
    for columns, kind in (({"class": [1.0]}, Value("float64")), ({"label": [1.0]}, Value("float64"))):
        features = Features({"image": Image(), **dict.fromkeys(columns, kind)})
        Dataset.from_dict({"image": [picture(0)], **columns}, features=features).to_parquet(
            tmp_path / "photos" / "train.parquet"
        )
        stream = open_stream(f"hf:{tmp_path / 'photos'}?streaming=1")
        assert stream.class_names is None
        (note,) = stream.notes
        assert ("no column called label" if "class" in columns else "cast it to a ClassLabel, or omit ?stre") in note


def test_jobs_and_forecasts_say_what_has_no_label(make_folder, rgb_codec, tmp_path):
    root = make_folder(splits=["train"], each=3)
    for path in sorted((root / "train" / "dog").iterdir()):
        path.rename(root / "train" / f"loose-{path.name}")
    source, said = open_source(str(root)), []
    config = PrepareConfig(size=32, workers=0)
    expected = [
        "no labels of 3 images: they lie outside of the class folders (train/loose-00.png is the first)",
        "split train: 3 of its 6 samples have no label; they are stored with their label unknown",
    ]
    assert list(forecast(source, rgb_codec, config).notes) == expected
    manifest = prepare(source, rgb_codec, tmp_path / "out", config, progress=lambda state: said.append(state.note))
    assert [note for note in said if note][:2] == expected
    assert (manifest.splits["train"].num_samples, manifest.splits["train"].class_counts) == (6, [3])
    stream = IterableSource(lambda: iter([(IMAGE, 0)] * 2), name="x", class_names=["a"])
    assert stream.notes == []
    classes = Features({"image": Image(), "label": ClassLabel(names=["a"])})
    Dataset.from_dict({"image": [picture(0)], "label": [-1]}, features=classes).save_to_disk(tmp_path / "saved")
    source = open_source(f"hf:{tmp_path / 'saved'}")
    assert forecast(source, rgb_codec, config).notes == (
        "split train: none of its 1 samples has a label; they are stored with their label unknown",
    )
