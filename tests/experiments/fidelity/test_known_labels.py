"""Classes of a source and the classes that a classifier knows."""

import numpy as np
import pytest
from datasets_prep.codec_fit.native_signals import select_samples
from timm.data import ImageNetInfo

from datasets_prep.sources import open_source
from experiments.fidelity.samples import known_labels
from tests.support.pictures import picture

IMAGENET = (ImageNetInfo().label_names(), ImageNetInfo().label_descriptions())


def labels_of(folder, names=IMAGENET):
    source = open_source(f"imagefolder:{folder}")
    samples = select_samples(source)
    found = known_labels(source, samples, *names)
    assert found.dtype == np.int64
    return dict(zip((source.key(*sample) for sample in samples), found.tolist(), strict=True))


def test_files_that_begin_with_a_wordnet_id(photos):
    assert labels_of(photos) == {
        "n01440764_tench.png": 0,
        "n01443537_0.png": 1,
        "n02123045.png": 281,
        "n07920052_espresso.png": 967,
        "n99999999_none.png": -1,
        "other.png": -1,
        "zz.png": -1,
    }


@pytest.mark.parametrize(
    ("folder", "number"),
    [
        ("n01440764", 0),
        ("n01440764_tench", 0),
        ("tench", 0),
        ("Great white_shark", 2),
        ("tiger-cat", 282),
        ("tench, Tinca tinca", 0),
        ("crane", -1),  # a bird and a machine
        ("n0144076400", -1),
        ("zebra crossing", -1),
    ],
)
def test_folders_of_classes(tmp_path, folder, number):
    (tmp_path / folder).mkdir()
    picture(0).save(tmp_path / folder / "n01443537_0.png")
    (tmp_path / "unknown").mkdir()
    picture(1).save(tmp_path / "unknown" / "0.png")
    assert labels_of(tmp_path) == {f"{folder}/n01443537_0.png": number, "unknown/0.png": -1}


def test_a_classifier_whose_classes_have_no_names_knows_none(photos):
    assert set(labels_of(photos, (None, None)).values()) == {-1}
