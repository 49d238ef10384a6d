"""All kinds of labels, from the shard to the batch."""

import json

import numpy as np
import pytest
import torch

from tests.support.any_samples import LABELS, write_any_set
from tests.support.drawn_rows import rank_slices
from tests.support.small_sets import make_spec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import DamagedError
from walloc_cdl.latents import LabelSpec, SampleLayout, load_manifest, manifest_from_json, verify

SHAPE = (2, 2, 3)


def layout_of(labels: LabelSpec) -> SampleLayout:
    return SampleLayout(make_spec(), SHAPE, labels)


@pytest.mark.parametrize("labels", LABELS, ids=lambda spec: f"{spec.kind}-{spec.num_columns}")
@pytest.mark.parametrize("residency", ["mmap", "ram", "device"])
def test_batches_have_the_labels_shape_and_type(tmp_path, labels, residency):
    content = write_any_set(tmp_path, layout_of(labels), {"train": [5, 0, 6]})["train"]
    dataset = open_latents(tmp_path)
    assert dataset.layout.labels == labels
    loader = LatentLoader(dataset, 4, drop_last=False, residency=residency)
    batches = list(loader)
    for (_, found), rows in zip(batches, rank_slices(loader.batches, 0), strict=True):
        expected = np.full(len(rows), -1) if content.labels is None else content.labels[rows]
        assert found.dtype == torch.from_numpy(expected).dtype
        np.testing.assert_array_equal(found.numpy(), expected)
    _, label = dataset[-1]
    np.testing.assert_array_equal(np.asarray(label), -1 if content.labels is None else content.labels[-1])
    assert isinstance(label, int) == (labels.kind in ("class", "none"))


def test_positives_of_each_class_are_counted(tmp_path):
    content = write_any_set(tmp_path, layout_of(LabelSpec("multilabel", 4)), {"train": [50]}, seed=1)["train"]
    manifest = load_manifest(tmp_path)
    counts = manifest.splits["train"].class_counts
    assert counts == content.labels.sum(0).tolist()
    assert sum(counts) > 50
    assert manifest.class_names == ["column 0", "column 1", "column 2", "column 3"]
    assert verify(tmp_path, full=True).problems == []


@pytest.mark.parametrize(
    ("labels", "value", "problem"),
    [
        (LabelSpec("multilabel", 2), b"\x02", r"label \[.*2.*\] of sample 0, expected 0 or 1"),
        (LabelSpec("regression", 1), b"\x00\x00\x80\x7f", "label inf of sample 0, expected a finite number, or NaN"),
        (LabelSpec("class", 3), b"\x03", "label 3 of sample 0, expected -1 to 2"),
    ],
)
def test_labels_out_of_range_are_found(tmp_path, labels, value, problem):
    drawn = write_any_set(tmp_path, layout_of(labels), {"train": [3]})["train"]
    path = tmp_path / "train-00000.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    begin = 8 + length + header[labels.tensor_name]["data_offsets"][0]
    assert bytes(data[begin : begin + 1]) == drawn.labels.tobytes()[:1]
    data[begin : begin + len(value)] = value if labels.kind != "class" else value + bytes(7)[: len(value) - 1]
    if labels.kind == "class":
        data[begin : begin + 8] = (3).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=problem):
        _ = open_latents(tmp_path).labels
    text = "\n".join(verify(tmp_path, full=True).problems)
    assert f"1 labels outside {labels.valid_values}" in text
    assert "1 of 3 samples fail their CRC32C (row 0: " in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"label_kind": "regression"}, "class names, but labels of kind 'regression'"),
        ({"label_kind": "none"}, "class names, but labels of kind 'none'"),
        (
            {"label_kind": "words", "class_names": None},
            "label kind is 'words', expected one of none, class, multilabel, regression",
        ),
        ({"target_names": ["a"]}, "target names, but labels of kind 'multilabel'"),
        ({"class_names": None}, "labels of kind multilabel without a name for any column"),
        ({"class_names": ["a", "a", "b", "c"]}, "a class name occurs twice"),
        (
            {"splits": {"train": {"num_samples": 5, "class_counts": [1, 2, 3, 6]}}},
            "6 samples of one class, more than 5",
        ),
        ({"views": ["center"]}, r"views \['center'\], expected two or more, or null"),
        ({"views": ["center", "center"]}, "a view name occurs twice"),
        ({"views": ["center", "flip"]}, "histogram counts differ from 5 samples of 12 positions"),
        ({"geometry": "ragged"}, "geometry: found 'ragged', expected 'fixed'"),
        ({"latent_shape": [2, None, None]}, "geometry: found 'fixed', expected 'ragged'"),
        ({"latent_shape": [2, None, 3], "geometry": "ragged"}, "is fixed in one direction only"),
        ({"latent_shape": [None, 2, 3], "geometry": "ragged"}, "latent shape has None channels, its spec 2"),
    ],
)
def test_manifests_whose_kinds_contradict_themselves_are_refused(tmp_path, changes, problem):
    write_any_set(tmp_path, layout_of(LabelSpec("multilabel", 4)), {"train": [5]})
    fields = load_manifest(tmp_path).to_json()
    with pytest.raises(DamagedError, match=problem):
        manifest_from_json({**fields, **changes})
