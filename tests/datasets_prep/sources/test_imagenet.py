from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from datasets_prep import open_source
from datasets_prep.sources.core.label_files import LabeledSource
from tests.datasets_prep.sources.test_tars import tar_bytes
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import assert_is_picture, keys, labels, message
from walloc_cdl.errors import CallError

SYNSETS = ("n01440764", "n01443537", "n02000000")


def class_tar(number):
    synset = SYNSETS[number]
    return tar_bytes([(f"{synset}_{image}.JPEG", encoded(picture(number * 2 + image))) for image in range(2)])


@pytest.fixture
def tars(tmp_path):
    root = tmp_path / "imagenet"
    root.mkdir()
    outer = tar_bytes([(f"{SYNSETS[number]}.tar", class_tar(number)) for number in (2, 0, 1)])
    (root / "ILSVRC2012_img_train.tar").write_bytes(outer)
    images = [(f"ILSVRC2012_val_{n:08d}.JPEG", encoded(picture(10 + n))) for n in (2, 1, 3)]
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(images))
    (root / "val.txt").write_text("".join(f"ILSVRC2012_val_{n:08d}.JPEG {SYNSETS[n % 3]}\n" for n in (1, 2, 3)))
    return root


def test_tars_as_distributed(tars):
    source = open_source(f"imagenet:{tars}?val_labels={tars}/val.txt")
    assert source.name == "imagenet"
    assert source.class_names == list(SYNSETS)
    assert keys(source)[:3] == [
        "n01440764/n01440764_0.JPEG",
        "n01440764/n01440764_1.JPEG",
        "n01443537/n01443537_0.JPEG",
    ]
    assert labels(source) == [0, 0, 1, 1, 2, 2]
    for index in range(6):
        assert_is_picture(source.read("train", index), index)
    assert labels(source, "validation") == [2, 1, 0]
    assert_is_picture(source.read("validation", 0), 12)


def test_class_folders_and_class_tars_differ_only_in_paths(tars, tmp_path):
    root = tmp_path / "other"
    (root / "train" / SYNSETS[0]).mkdir(parents=True)
    for image in range(2):
        picture(image).save(root / "train" / SYNSETS[0] / f"{SYNSETS[0]}_{image}.JPEG", "PNG")
    for number in (1, 2):
        (root / "train" / f"{SYNSETS[number]}.tar").write_bytes(class_tar(number))
    (root / "train" / "notes.txt").write_text("-")
    (root / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius\n")
    source = open_source(f"imagenet:{root}")
    assert source.split_names == ["train"]
    assert source.class_names == ["n01440764 tench", "n01443537 goldfish", "n02000000"]
    assert keys(source) == keys(open_source(f"imagenet:{tars}?val_labels={tars}/val.txt"))
    assert [stray.key for stray in source.strays] == ["train/notes.txt"]
    assert_is_picture(source.read("train", 1), 1)
    assert_is_picture(source.read("train", 5), 5)


def test_validation_folders(tars, tmp_path):
    root = tmp_path / "other"
    (root / "val" / SYNSETS[1]).mkdir(parents=True)
    picture(0).save(root / "val" / SYNSETS[1] / "ILSVRC2012_val_00000001.JPEG", "PNG")
    source = open_source(f"imagenet:{root}")
    assert (source.split_names, source.class_names) == (["validation"], ["n01443537"])
    picture(1).save(root / "val" / "ILSVRC2012_val_00000003.JPEG", "PNG")
    source = open_source(f"imagenet:{root}?val_labels={tars}/val.txt")
    assert (source.class_names, labels(source, "validation")) == (["n01440764", "n01443537"], [1, 0])


def test_labels_of_kaggle_and_of_the_devkit(tars):
    usual = open_source(f"imagenet:{tars}?val_labels={tars}/val.txt").fingerprint()
    (tars / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        + "".join(f"ILSVRC2012_val_{n:08d},{SYNSETS[n % 3]} 1 2 3 4 {SYNSETS[0]} 5 6 7 8\n" for n in (3, 1, 2))
    )
    assert open_source(f"imagenet:{tars}?val_labels={tars}/LOC_val_solution.csv").fingerprint() == usual
    truth = tars / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("3\n1\n2\n")  # the devkit numbers classes in an order of its own
    assert "has the devkit's own class numbers; also give ?meta=FILE" in message(f"imagenet:{tars}?val_labels={truth}")
    rows = np.array(
        [(1, SYNSETS[2]), (2, SYNSETS[0]), (3, SYNSETS[1]), (1001, "n99999999")],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object)],
    )
    savemat(tars / "meta.mat", {"synsets": rows})
    assert open_source(f"imagenet:{tars}?val_labels={truth}").fingerprint() == usual
    assert open_source(f"imagenet:{tars}?val_labels={truth}&meta={tars}/meta.mat").fingerprint() == usual
    truth.write_text("3\n7\n")
    assert "line 2: class '7'; expected 1 to 3" in message(f"imagenet:{tars}?val_labels={truth}")


def test_imagenet_refusals(tars, tmp_path):
    assert "give ?val_labels=FILE: lines of NAME SYNSET" in message(f"imagenet:{tars}")
    assert "does not exist; give the folder of its tars" in message(f"imagenet:{tmp_path}/none")
    (tmp_path / "empty").mkdir()
    assert "has neither ILSVRC2012_img_train.tar, " in message(f"imagenet:{tmp_path}/empty")
    (tars / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG n01440764\n")
    assert "?val_labels has no synset for image 'ILSVRC2012_val_00000002'" in message(
        f"imagenet:{tars}?val_labels={tars}/val.txt"
    )
    (tars / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG tench\n")
    assert "line 1: label 'tench'; expected a synset" in message(f"imagenet:{tars}?val_labels={tars}/val.txt")
    (tmp_path / "double/train" / SYNSETS[0]).mkdir(parents=True)
    (tmp_path / "double/train" / f"{SYNSETS[0]}.tar").write_bytes(class_tar(0))
    assert "n01440764' exists as a folder and as a tar; remove one" in message(f"imagenet:{tmp_path}/double")
    (tars / "truth.txt").write_bytes(b"1\n\xff\n")
    rows = [(number, SYNSETS[2]) for number in (1, 2)]
    savemat(tars / "meta.mat", {"synsets": np.array(rows, [("ILSVRC2012_ID", object), ("WNID", object)])})
    assert "truth.txt', line 2: class '\ufffd'; expected 1" in message(f"imagenet:{tars}?val_labels={tars}/truth.txt")
    (tars / "meta.mat").write_bytes(b"-")
    (tars / "val.txt").write_text("1\n")
    assert "is not the devkit's meta.mat" in message(f"imagenet:{tars}?val_labels={tars}/val.txt")


def test_truncated_class_tars_are_strays(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{SYNSETS[0]}.tar").write_bytes(class_tar(0)[:-4000])
    (tmp_path / "train" / f"{SYNSETS[1]}.tar").write_bytes(class_tar(1))
    source = open_source(f"imagenet:{tmp_path}")
    assert [(stray.split, stray.key) for stray in source.strays] == [("train", f"{SYNSETS[0]}.tar")]


@pytest.fixture
def flat(tmp_path):
    root = tmp_path / "flat"
    root.mkdir()
    for number in range(3):
        picture(number).save(root / f"{number} x.png")
    return root


@pytest.mark.parametrize("separator", [" ", "\t", ",", " , "])
def test_labels_of_a_flat_folder(flat, tmp_path, separator):
    path = tmp_path / "labels.txt"
    path.write_text(f"2 x.png{separator}owl\n\n0 x.png{separator}ant\n1 x.png{separator}owl\nother.png{separator}bee\n")
    source = LabeledSource(open_source(str(flat)), path)
    assert (source.class_names, labels(source)) == (["ant", "owl"], [0, 1, 1])
    assert source.read("train", 2) == flat / "2 x.png"
    assert (source.channels, source.absence()) == (3, None)
    assert list(source.part("train", 1, 3)) == [flat / "1 x.png", flat / "2 x.png"]


def test_label_files_that_do_not_match(flat, tmp_path, make_folder):
    path = tmp_path / "labels.txt"

    def refused(text, source=None):
        path.write_text(text)
        with pytest.raises(CallError) as caught:
            LabeledSource(open_source(str(source or flat)), path)
        return str(caught.value)

    assert "has no label for 2 images (0 x.png is the first)" in refused("1 x.png a\n")
    assert "line 2: a second label for '1 x.png'; keep one" in refused("1 x.png a\n1 x.png b\n")
    assert "line 1: 'word'; expected a name and its label" in refused("word\n")
    assert "has classes of its own" in refused("", make_folder())
    with pytest.raises(CallError, match="cannot be read: No such file or directory; expected lines of NAME LABEL"):
        LabeledSource(open_source(str(flat)), tmp_path / "none.txt")
