from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from datasets_prep import open_source
from datasets_prep.decode.images import load_pixels
from tests.support.pictures import encoded, picture
from walloc_cdl.errors import CallError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def photos(start: int, count: int) -> Dataset:
    columns = {"img": [picture(seed) for seed in range(start, start + count)], "label": [0, 1, 1, 0, 1][:count]}
    return Dataset.from_dict(columns, features=Features({"img": Image(), "label": ClassLabel(names=["cat", "dog"])}))


def assert_is_picture(source, split, index, seed):
    loaded = load_pixels(source.read(split, index), 32, 3)
    np.testing.assert_array_equal(loaded, load_pixels(encoded(picture(seed)), 32, 3))


def test_saved_to_disk(tmp_path):
    DatasetDict({"train": photos(0, 5), "validation": photos(5, 2)}).save_to_disk(tmp_path / "saved")
    source = open_source(f"hf:{tmp_path / 'saved'}")
    assert source.name == "saved"
    assert source.split_names == ["train", "validation"]
    assert source.class_names == ["cat", "dog"]
    assert [source.label("train", index) for index in range(5)] == [0, 1, 1, 0, 1]
    assert source.key("train", 3) == "00000003"
    assert source.channels == 3
    for split, seed in (("train", 0), ("validation", 5)):
        assert_is_picture(source, split, 1, seed + 1)
        assert source.num_bytes(split, 1) == len(source.read(split, 1))


def test_single_split_saved_to_disk_is_train(tmp_path):
    photos(0, 3).save_to_disk(tmp_path / "saved")
    assert open_source(f"hf:{tmp_path / 'saved'}").split_names == ["train"]


def test_rows_selected_before_saving_stay_selected(tmp_path):
    photos(0, 5).select([4, 1]).save_to_disk(tmp_path / "saved")
    source = open_source(f"hf:{tmp_path / 'saved'}")
    assert source.num_samples("train") == 2
    assert_is_picture(source, "train", 0, 4)


def test_parquet_with_splits_in_the_names(tmp_path):
    photos(0, 3).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    photos(3, 2).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    photos(5, 2).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    source = open_source(f"parquet:{tmp_path}/*.parquet")
    assert sorted(source.split_names) == ["test", "train"]
    assert source.num_samples("train") == 5
    assert_is_picture(source, "train", 4, 4)
    assert_is_picture(source, "test", 0, 5)
    again = open_source(f"parquet:{tmp_path}")
    assert again.fingerprint() == source.fingerprint()


def test_plain_parquet_with_bytes_and_text_labels(tmp_path):
    columns = {"image": [encoded(picture(seed)) for seed in range(3)], "label": ["owl", "ant", "owl"]}
    pq.write_table(pa.table(columns), tmp_path / "birds.parquet")
    source = open_source(f"parquet:{tmp_path}/birds.parquet")
    assert source.split_names == ["train"]
    assert source.class_names == ["ant", "owl"]
    assert [source.label("train", index) for index in range(3)] == [1, 0, 1]
    assert_is_picture(source, "train", 2, 2)


def test_images_by_path_and_missing_images(tmp_path):
    picture(3).save(tmp_path / "a.png")
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    rows = [{"bytes": None, "path": str(tmp_path / "a.png")}, None]
    Dataset.from_dict({"image": rows, "label": [7, None]}, features=features).save_to_disk(tmp_path / "saved")
    source = open_source(f"hf:{tmp_path / 'saved'}?absolute=1")
    assert source.class_names == ["7"]
    assert [source.label("train", index) for index in range(2)] == [0, -1]
    assert_is_picture(source, "train", 0, 3)
    assert source.read("train", 1) == b""


def test_columns_can_be_selected(tmp_path):
    rows = {"left": [picture(0)], "right": [picture(1)], "fine": [2], "coarse": [0]}
    classes = {"fine": ClassLabel(num_classes=3), "coarse": ClassLabel(num_classes=2)}
    features = Features({"left": Image(), "right": Image(), **classes})
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    with pytest.raises(
        CallError, match=r"several image columns in data set 'saved': left, right; choose with \?image="
    ):
        open_source(f"hf:{tmp_path / 'saved'}")
    with pytest.raises(
        CallError, match=r"several label columns in data set 'saved': fine, coarse; choose with \?label="
    ):
        open_source(f"hf:{tmp_path / 'saved'}?image=left")
    source = open_source(f"hf:{tmp_path / 'saved'}?image=right&label=fine")
    assert source.label("train", 0) == 2
    assert_is_picture(source, "train", 0, 1)
    with pytest.raises(CallError, match="has no column 'middle'; its columns are left, right, fine, coarse"):
        open_source(f"hf:{tmp_path / 'saved'}?image=middle")
    with pytest.raises(CallError, match=r"column 'fine' of data set 'saved' holds ClassLabel.*, not images"):
        open_source(f"hf:{tmp_path / 'saved'}?image=fine&label=coarse")
    with pytest.raises(CallError, match=r"source options 'picture=left'; expected some of image, label, "):
        open_source(f"hf:{tmp_path / 'saved'}?picture=left")


@pytest.mark.parametrize("first", ["train", "test"])
def test_splits_without_the_column_of_labels(tmp_path, first):
    splits = {"train": photos(0, 5), "test": photos(5, 2).remove_columns("label")}
    DatasetDict({first: splits.pop(first), **splits}).save_to_disk(tmp_path / "saved")
    source = open_source(f"hf:{tmp_path / 'saved'}")
    assert source.class_names == ["cat", "dog"]
    assert [source.label("train", index) for index in range(5)] == [0, 1, 1, 0, 1]
    assert [source.label("test", index) for index in range(2)] == [-1, -1]


def test_data_sets_without_images(tmp_path):
    Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(CallError, match="no image column in data set 'saved', only text, label; "):
        open_source(f"hf:{tmp_path / 'saved'}")


def test_data_sets_that_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(CallError, match=r"no data set folder './missing'"):
        open_source("hf:./missing")
    with pytest.raises(CallError, match=r"no file matches '.*none\*.parquet'"):
        open_source(f"parquet:{tmp_path}/none*.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CallError, match=r"parquet file '.*broken.parquet' cannot be read: "):
        open_source(f"parquet:{tmp_path}/broken.parquet")

    def missing(name, config):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist\non the Hub: {config}")

    monkeypatch.setattr("datasets_prep.sources.hubs.huggingface.load_dataset", missing)
    with pytest.raises(
        CallError, match="'me/nothing' cannot be opened: Dataset 'me/nothing' doesn't exist on the Hub: c1;"
    ):
        open_source("hf:me/nothing:c1")
