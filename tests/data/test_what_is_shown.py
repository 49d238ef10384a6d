"""What a user sees of a data set: descriptions, labels and pictures."""

import numpy as np
import pytest
from PIL import Image

from tests.support.any_samples import RAGGED, write_any_set
from tests.support.small_sets import CLASS_NAMES, make_spec, write_small_set
from walloc_cdl import load_codec
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.codec import to_bytes
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import FileEntry, LabelSpec, SampleLayout


def codec_files(name="resize-rgb-16x"):
    return {f"codec/{file}": data for file, data in load_codec(name).files().items()}


@pytest.fixture
def pictures(tmp_path):
    content = write_small_set(tmp_path, {"train": [4, 7]}, shape=(3, 2, 3), files=codec_files())["train"]
    return open_latents(tmp_path), content


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rgb-16x", "WallocCodec2D('rgb-16x': images (3, H, W) to codes (12, H/8, W/8) of 8 bits, 16x fewer values)"),
        ("stereo-5x", "WallocCodec1D('stereo-5x': audio (2, T) to codes (27, T/64) of 8 bits, 4.74x fewer values)"),
        (
            "resize-gray-4x",
            "ResizeCodec('resize-gray-4x': images (1, H, W) to codes (1, H/2, W/2) of 8 bits, 4x fewer values)",
        ),
    ],
)
def test_codecs_say_what_they_do(name, text):
    assert repr(load_codec(name)) == text
    assert str([load_codec(name)]) == f"[{text}]"


def test_specs_say_what_they_describe():
    spec = load_codec("rgb-16x").spec
    assert repr(spec) == (
        "LatentSpec(images (3, H, W) to codes (12, H/8, W/8) of 8 bits, 16x fewer values, companding normal, "
        f"codec {spec.codec_id[:12]}…)"
    )
    assert "(1, T) to codes (2, T/8)" in repr(make_spec(2, "audio"))
    assert ", 8000 Hz, " in repr(make_spec(2, "audio"))


def test_data_sets_and_loaders_say_what_they_hold(pictures, tmp_path):
    dataset, _ = pictures
    text = f"LatentDataset({str(tmp_path)!r}, split 'train': 11 samples, codes (3, 2, 3), 3 classes)"
    assert repr(dataset) == text
    assert repr(dataset[2:5]) == text.replace("11 samples", "3 of 11 samples")
    loader = LatentLoader(dataset, 4)
    shown = "LatentLoader(2 batches of 4, shuffled, the last one dropped if incomplete, on cpu, residency mmap, of "
    assert repr(loader) == f"{shown}{text})"
    in_order = LatentLoader(dataset, 4, shuffle=False, drop_last=False, rank=1, world_size=2)
    assert repr(in_order).startswith("LatentLoader(3 batches of 4, in order, rank 1 of 2, on cpu, ")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (LabelSpec(), "no labels"),
        (LabelSpec("class"), "class numbers"),
        (LabelSpec("multilabel", 3), "any of 3 classes"),
        (LabelSpec("regression", 2), "targets"),
    ],
)
def test_labels_of_every_kind_are_named(tmp_path, labels, text):
    write_any_set(tmp_path, SampleLayout(make_spec(), (2, 2, 3), labels, num_views=2), {"train": [5]})
    assert repr(open_latents(tmp_path, view=1)).endswith(f"codes (2, 2, 3), view 1 of 2, {text})")


def test_the_names_of_torchvision(pictures):
    dataset, content = pictures
    assert dataset.classes == CLASS_NAMES
    np.testing.assert_array_equal(dataset.targets, content.labels)
    np.testing.assert_array_equal(dataset[3:].targets, content.labels[3:])
    known = [row for row in range(11) if content.labels[row] >= 0]
    assert [dataset.label_text(row) for row in known] == [CLASS_NAMES[content.labels[row]] for row in known]
    assert dataset[known[1] :].label_text(0) == dataset.label_text(known[1])


def test_data_sets_without_classes_have_none(tmp_path):
    write_small_set(tmp_path, {"train": [2]}, labeled=False)
    assert (open_latents(tmp_path).classes, open_latents(tmp_path).label_text(1)) == ([], "")


def test_a_sample_as_a_picture(pictures):
    dataset, _ = pictures
    expected = to_bytes(load_codec("resize-rgb-16x").decode(dataset.gather(range(11)).codes)).numpy()
    for index, row in ((0, 0), (5, 5), (-1, 10)):
        picture = dataset.image(index)
        assert (picture.mode, picture.size) == ("RGB", (12, 8))
        np.testing.assert_array_equal(np.asarray(picture), expected[row].transpose(1, 2, 0))
    assert dataset[4:].image(1).tobytes() == dataset.image(5).tobytes()
    with pytest.raises(IndexError, match="from 11 to 11, expected 0 to 10"):
        dataset.image(11)


def test_a_picture_of_ragged_geometry_has_the_size_of_the_signal(tmp_path):
    layout = SampleLayout(load_codec("resize-rgb-16x").spec, (3, None, None), LabelSpec("class", 3))
    (tmp_path / "codec").mkdir()
    entries = {name: FileEntry(len(data), sha256_hex(data)) for name, data in codec_files().items()}
    for name, data in codec_files().items():
        (tmp_path / name).write_bytes(data)
    write_any_set(tmp_path, layout, {"train": [3]}, files=entries)
    dataset = open_latents(tmp_path)
    for row in (0, -1):
        height, width = dataset.signal_sizes([row % 3])[0]
        assert dataset.image(row).size == (width, height)


def test_a_notebook_shows_the_first_pictures(pictures, monkeypatch):
    dataset, _ = pictures
    shown = dataset._repr_html_()
    assert shown.count("data:image/png;base64,") == 8
    assert dataset[:2]._repr_html_().count("<img") == 2
    assert "LatentDataset(&#x27;" in shown
    monkeypatch.setitem(dataset.manifest.__dict__, "class_names", ["<b>", "&", '"'])
    assert "<b>" not in dataset._repr_html_()


def test_a_data_set_without_pictures_is_described(tmp_path, pictures):
    path = tmp_path / "codec" / "config.json"
    path.write_bytes(b" " * len(path.read_bytes()))
    with pytest.raises(DamagedError, match=r"config\.json: SHA-256 is [0-9a-f]{12}…, expected"):
        open_latents(tmp_path).image(0)
    assert "<img" not in open_latents(tmp_path)._repr_html_()
    assert "11 samples" in open_latents(tmp_path)._repr_html_()


def test_what_has_no_picture(tmp_path):
    write_any_set(tmp_path, SampleLayout(make_spec(2, "audio"), RAGGED["audio"], LabelSpec()), {"train": [2]})
    with pytest.raises(CallError, match=r"holds audio, which has no picture; decode it with dataset\.codec"):
        open_latents(tmp_path).image(0)
    assert "<img" not in open_latents(tmp_path)._repr_html_()
    with pytest.raises(CallError, match="has no codec; decode it with the one that it was made with"):
        _ = open_latents(tmp_path).codec


def test_gray_and_false_color():
    from walloc_cdl.codec.pictures import to_picture

    rng = np.random.default_rng(0)
    assert to_picture(rng.integers(0, 256, (1, 4, 6), dtype=np.uint8)).mode == "L"
    cube = to_picture(rng.random((20, 4, 6)))
    assert (cube.mode, cube.size, isinstance(cube, Image.Image)) == ("RGB", (6, 4), True)
