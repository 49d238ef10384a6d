"""Which folders and files are splits, which are classes, and which leave it open."""

from __future__ import annotations

from dataclasses import replace

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.data_files import SPLIT_KEYWORDS

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.sources.core.split_names import known_split, resembled_split
from datasets_prep.sources.folders.file_lists import by_split
from tests.datasets_prep.sources.test_tars import tar_bytes
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import keys, labels, message
from tests.support.sounds import sound, write_sound
from walloc_cdl.latents import load_manifest, verify


@pytest.fixture
def folders(tmp_path):
    """Write `photos/TOP/CLASS/0.png` for each TOP and return the path of the folder."""

    def write(*tops, classes=("cat", "dog")):
        for number, (top, name) in enumerate((top, name) for top in tops for name in classes):
            path = tmp_path / "photos" / top / name / "0.png"
            path.parent.mkdir(parents=True)
            picture(number).save(path)
        return tmp_path / "photos"

    return write


def test_synonyms_are_those_of_datasets():
    names = {str(split): words for split, words in SPLIT_KEYWORDS.items()}
    assert {split: {known_split(word) for word in words} for split, words in names.items()} == {
        split: {split} for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train2017", "train"),
        ("Training Set", "train"),
        ("val_images", "validation"),
        ("test-1", "test"),
        ("testdata", "test"),
        ("TEST", "test"),
        ("trainer", None),
        ("bullet_train", None),
        ("train_station", None),
        ("test" + "_1" * 120 + "x", None),
        ("teſt1", None),
        ("", None),
    ],
)
def test_names_that_resemble_a_split(name, split):
    assert resembled_split(name) == split


@pytest.mark.parametrize(
    ("tops", "splits"),
    [
        (("Train", "VAL", "Test"), {"train": "Train", "validation": "VAL", "test": "Test"}),
        (("training", "testing"), {"train": "training", "test": "testing"}),
        (("dev", "train"), {"train": "train", "validation": "dev"}),
        (("Evaluation", "train"), {"train": "train", "test": "Evaluation"}),
    ],
)
def test_folders_with_names_of_splits(folders, tops, splits):
    source = open_source(str(folders(*tops)))
    assert source.split_names == list(splits)
    assert source.class_names == ["cat", "dog"]
    for split, top in splits.items():
        assert keys(source, split) == [f"{top}/cat/0.png", f"{top}/dog/0.png"]
        assert labels(source, split) == [0, 1]


@pytest.mark.parametrize(
    ("tops", "found", "read"),
    [
        (("train", "test", "extra"), "(test, train) beside others (extra)", "train, test, extra"),
        (("bus", "train"), "(train) beside others (bus)", "train, bus"),
        (("test_set", "training_set"), "(test_set, training_set)", "train, test"),
        (("train2017", "val"), "(train2017, val)", "train, validation"),
        ((*"abcdef", "Dev"), "(Dev) beside others (a, b, c, d, e, …)", "validation, a, b, c, d, …"),
    ],
)
def test_folders_with_two_readings_are_refused(folders, tops, found, read):
    root = folders(*tops)
    assert message(str(root)) == (
        f"{str(root)!r} has folders named like splits {found}; append ?splits=1 to the source if these are the splits "
        f"{read}, or ?splits=0 if they are classes"
    )


def test_the_option_decides(folders):
    root = folders("train", "Test", "extra", "val2017")
    for text in (f"{root}?splits=1", f"imagefolder:{root}?splits=1"):
        source = open_source(text)
        assert (source.split_names, source.class_names) == (["train", "validation", "test", "extra"], ["cat", "dog"])
        assert keys(source, "test") == ["Test/cat/0.png", "Test/dog/0.png"]
        assert keys(source, "validation") == ["val2017/cat/0.png", "val2017/dog/0.png"]
    source = open_source(f"{root}?splits=0")
    assert (source.name, source.split_names) == ("photos", ["train"])
    assert source.class_names == ["Test", "extra", "train", "val2017"]
    assert labels(source) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_option_overrides_names_that_are_clear(folders):
    root = folders("train", "test")
    assert open_source(f"{root}?splits=0").class_names == ["test", "train"]
    assert open_source(f"{root}?splits=1").fingerprint() == open_source(str(root)).fingerprint()
    assert open_source(f"{root}/train?splits=1").split_names == ["cat", "dog"]
    assert open_source(f"{root}/train?splits=0").fingerprint() == open_source(f"{root}/train").fingerprint()


def test_wrong_options_and_folders(folders):
    root = folders("train", "Training", "bad name")
    assert "source options 'labels=1'; expected some of splits" in message(f"{root}?labels=1")
    assert "source option splits='yes'; expected 0 or 1" in message(f"{root}?splits=yes")
    assert "split 'bad name'; expected a name of letters, digits, _ and -" in message(f"{root}?splits=1")
    assert "has no folder of images that could be a split; omit ?splits=1" in message(f"{root}/train/cat?splits=1")
    (root / "bad name").rename(root / "train" / "emu")
    assert message(str(root)).endswith(
        "has Training and train, which all mean train; keep one of them, or append ?splits=0 to the source to read all "
        "folders as classes"
    )


def test_a_question_mark_in_a_name(folders):
    root = folders("train?splits=0", "cat")
    assert open_source(str(root)).class_names == ["cat", "train?splits=0"]
    assert open_source(f"{root}/train?splits=0").class_names == ["cat", "dog"]
    assert open_source(f"imagefolder:{root}/train?splits=0").split_names == ["train"]


def test_folders_at_urls(folders):
    root = folders("Train", "dev", "extra")
    system = fsspec.filesystem("memory")
    system.put(str(root), "/splits", recursive=True)
    try:
        found = "'memory://splits' has folders named like splits (Train, dev) beside others (extra); "
        assert message("imagefolder:memory://splits").startswith(found)
        for option in ("splits=0", "splits=1"):
            remote, local = (open_source(f"imagefolder:{place}?{option}") for place in ("memory://splits", root))
            assert remote.fingerprint() == local.fingerprint()
            assert remote.split_names == local.split_names
    finally:
        system.rm("/splits", recursive=True)


def test_folders_of_sounds_and_arrays(tmp_path):
    for number, top in enumerate(("Train", "testing", "extra")):
        write_sound(tmp_path / "sounds" / top / "hum" / "0.wav", sound(number, 100))
        (tmp_path / "arrays" / top / "hum").mkdir(parents=True)
        np.save(tmp_path / "arrays" / top / "hum" / "0.npy", np.zeros((1, 8, 8), np.uint8))
    for text in (f"audiofolder:{tmp_path}/sounds", f"npy:{tmp_path}/arrays"):
        assert "has folders named like splits (Train, testing) beside others (extra)" in message(text)
        assert open_source(f"{text}?splits=1").split_names == ["train", "test", "extra"]
        assert open_source(f"{text}?splits=0").class_names == ["Train", "extra", "testing"]


def write_files(folder, scheme, names):
    folder.mkdir()
    for number, name in enumerate(names):
        if scheme == "parquet":
            pq.write_table(pa.table({"image": [encoded(picture(number))]}), folder / f"{name}.parquet")
        else:
            (folder / f"{name}.tar").write_bytes(tar_bytes([(f"{number}.png", encoded(picture(number)))]))
    return f"{scheme}:{folder}"


@pytest.mark.parametrize("scheme", ["webdataset", "parquet"])
class TestFiles:
    def test_names_of_splits(self, scheme, tmp_path):
        source = open_source(write_files(tmp_path / "a", scheme, ["Training-0", "dev-0", "testing-0", "train-1"]))
        assert source.split_names == ["train", "validation", "test"]
        assert [source.num_samples(split) for split in source.split_names] == [2, 1, 1]
        assert open_source(f"{scheme}:{tmp_path}/a?splits=0").num_samples("train") == 4

    def test_other_names_beside_a_test_split_are_refused(self, scheme, tmp_path):
        text = write_files(tmp_path / "a", scheme, ["train-0", "test-0", "extra-0"])
        assert message(text) == (
            "'a' has files named like splits (test, train) beside others (extra); append ?splits=1 to the source if "
            "these are the splits train, test, extra, or ?splits=0 if they are one split, train"
        )
        assert open_source(f"{text}?splits=1").split_names == ["train", "test", "extra"]
        assert open_source(f"{text}?splits=0").num_samples("train") == 3

    def test_other_names_beside_training_data_are_training_data(self, scheme, tmp_path):
        for number, names in enumerate((["train-0", "extra-0"], ["train2017", "b"], ["a"])):
            source = open_source(write_files(tmp_path / str(number), scheme, names))
            assert source.split_names == ["train"]
            assert source.num_samples("train") == len(names)


def test_files_of_a_split_stay_in_order():
    """Keys are row numbers, counted through the files of a split."""
    assert by_split(["valid-0.tar", "test.tar", "val-0.tar", "valid-1.tar"]) == {
        "validation": ["valid-0.tar", "val-0.tar", "valid-1.tar"],
        "test": ["test.tar"],
    }


def test_a_table_keeps_the_names_of_its_splits(tmp_path):
    """Data sets have such splits already, and grow only if their names stay."""
    (tmp_path / "list.csv").write_text("path,split\na, Val\nb,TRAIN\nc,dev\nd,training\ne,eval\n")
    assert open_source(f"csv:{tmp_path}/list.csv").split_names == ["train", "validation", "dev", "eval", "training"]


def test_a_data_set_of_classes_with_names_of_splits_can_be_extended(folders, rgb_codec, tmp_path):
    root, config = folders("train", "bus", classes=("",)), PrepareConfig(size=32, shard_samples=5, workers=0)
    out = tmp_path / "out"
    prepare(open_source(f"{root}?splits=0"), rgb_codec, out, config)
    assert load_manifest(out).class_names == ["bus", "train"]
    picture(9).save(root / "bus" / "1.png")
    manifest = prepare(open_source(f"{root}?splits=0"), rgb_codec, out, replace(config, extend=True))
    assert manifest.splits["train"].num_samples == 3
    assert verify(out, full=True).problems == []
