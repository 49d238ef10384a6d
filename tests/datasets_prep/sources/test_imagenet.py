from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from datasets_prep import open_source
from datasets_prep.sources.core.label_files import LabeledSource
from datasets_prep.sources.core.label_notes import unlabeled_notes
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
    (tars / "val.txt").write_text("other.JPEG n01440764\n")
    assert "?val_labels has no synset for image 'ILSVRC2012_val_00000002' and all others" in message(
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


def test_validation_images_without_a_synset_have_an_unknown_label(tars):
    (tars / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG,n01443537\nILSVRC2012_val_00000002.JPEG,\n")
    source = open_source(f"imagenet:{tars}?val_labels={tars}/val.txt")
    assert labels(source, "validation") == [-1, 1, -1]
    (note,) = source.notes
    assert note.startswith("?val_labels has no synset for 2 of the 3 validation images (ILSVRC2012_val_00000002 is ")


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


def labeled(source, path, text):
    path.write_text(text)
    return LabeledSource(source, path)


def test_samples_without_a_line_have_an_unknown_label(flat, tmp_path):
    path = tmp_path / "labels.txt"
    source = labeled(open_source(str(flat)), path, "name\tkind\n1 x.png\towl\n")
    assert (source.class_names, labels(source), source.notes) == (["owl"], [-1, 0, -1], [])
    assert list(unlabeled_notes(source)) == [
        "split train: 2 of its 3 samples have no label; they are stored with their label unknown"
    ]
    source = labeled(open_source(str(flat)), path, "1 x.png,owl\n0 x.png,\n2 x.png,NaN\nzz.png,bee\nyy.png,ant\n")
    assert (source.class_names, labels(source)) == (["owl"], [-1, 0, -1])
    assert source.notes == [f"2 lines of '{path}' name no sample without a label (zz.png is the first)"]
    source = labeled(open_source(str(flat)), path, "1 x.png,-1\n")
    assert (source.class_names, labels(source)) == (None, [-1, -1, -1])
    assert "has only unknown labels" in source.notes[0]


def test_names_in_label_files_may_lack_suffix_and_folders(tmp_path, make_folder):
    root, path = make_folder(splits=["train"], classes=("cat", "dog"), each=2), tmp_path / "labels.txt"
    (root / "test").mkdir()
    for number, name in enumerate(("00.png", "b.x.png", "c.jpg", "d.png")):
        picture(number).save(root / "test" / name)
    source = labeled(open_source(str(root)), path, "00 dog\nb.x emu\ntest/c.jpg cat\n./test/d emu\n")
    assert source.class_names == ["cat", "dog", "emu"]
    assert source.notes == []
    assert (labels(source), labels(source, "test")) == ([0, 0, 1, 1], [1, 2, 0, 2])
    picture(0).save(root / "test" / "c.png")
    with pytest.raises(CallError, match=r"line 1: 'c' may be 'test/c.jpg' of split test and 'test/c.png' of split"):
        labeled(open_source(str(root)), path, "c dog\n")


def test_label_files_that_do_not_match(flat, tmp_path, make_folder):
    path = tmp_path / "labels.txt"

    def refused(text, source=None):
        path.write_text(text)
        with pytest.raises(CallError) as caught:
            LabeledSource(open_source(str(source or flat)), path)
        return str(caught.value)

    said = refused("4 x.png a\n5 y.png b\n")
    assert "labels.txt' names a sample of source flat without a label: the first is '4 x.png'; the samples" in said
    assert said.endswith("names such as '0 x.png'")
    assert "line 2: a second label for '1 x.png'; keep one" in refused("1 x.png a\n1 x.png b\n")
    assert "line 1: 'word'; expected a name and its label" in refused("word\n")
    assert "has classes of its own" in refused("", make_folder())
    with pytest.raises(CallError, match="cannot be read: No such file or directory; expected lines of NAME LABEL"):
        LabeledSource(open_source(str(flat)), tmp_path / "none.txt")
