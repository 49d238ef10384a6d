from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from datasets_prep import PrepareConfig, contact_sheet, load_pixels, open_source, prepare
from datasets_prep.preview import CAPTION, GAP, TILE, psnr_db
from walloc_cdl.codec import to_bytes
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError

FULL = PrepareConfig(size=TILE, workers=0)


def test_psnr_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    assert psnr_db(a, b) == pytest.approx(peak_signal_noise_ratio(a, b))
    assert psnr_db(a, a) == float("inf")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_source_beside_decoded_latent(make_folder, rgb_codec, gray_codec, tmp_path, mode):
    source = open_source(str(make_folder(splits=("train",), classes=("cat",), each=2, mode=mode)))
    codec = rgb_codec if mode == "RGB" else gray_codec
    prepare(source, codec, tmp_path / "out", FULL)
    sheet = np.asarray(contact_sheet(tmp_path / "out", source=source, num=2))
    assert sheet.shape == (GAP + TILE + CAPTION + GAP, GAP + 2 * (2 * TILE + GAP), 3)
    codes, _ = open_latents(tmp_path / "out").gather([0, 1])
    decoded = to_bytes(codec.decode(codes)).numpy()
    for index in range(2):
        left = GAP + index * (2 * TILE + GAP)
        pair = sheet[GAP : GAP + TILE, left : left + 2 * TILE].transpose(2, 0, 1)
        original = load_pixels(source.read("train", index), TILE, codec.spec.source_channels)
        np.testing.assert_array_equal(pair[:, :, :TILE], np.broadcast_to(original, (3, TILE, TILE)))
        np.testing.assert_array_equal(pair[:, :, TILE:], np.broadcast_to(decoded[index], (3, TILE, TILE)))
        caption = sheet[GAP + TILE : -GAP, left : left + 2 * TILE]
        assert (caption < 128).any()


def test_stored_views_stand_side_by_side(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder(splits=("train",), classes=("cat",), each=2)))
    prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=TILE, workers=0, views="flip,crops:1"))
    sheet = np.asarray(contact_sheet(tmp_path / "out", source=source, num=2))
    assert sheet.shape == (GAP + 2 * (TILE + CAPTION + GAP), GAP + 4 * TILE + GAP, 3)
    for view in range(3):
        codes, _ = open_latents(tmp_path / "out", view=view).gather([1])
        shown = sheet[GAP + TILE + CAPTION + GAP :][:TILE, GAP + (1 + view) * TILE :][:, :TILE].transpose(2, 0, 1)
        np.testing.assert_array_equal(shown, to_bytes(rgb_codec.decode(codes)).numpy()[0])
    assert contact_sheet(tmp_path / "out", num=2).width == GAP + 2 * (3 * TILE + GAP)


def test_the_source_is_shown_as_it_was_prepared(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder(splits=("train",), classes=("cat",), each=1)))
    prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=TILE, workers=0, crop="pad", resize="box"))
    sheet = np.asarray(contact_sheet(tmp_path / "out", source=source, num=1))
    original = load_pixels(source.read("train", 0), TILE, 3, crop="pad", kernel="box")
    np.testing.assert_array_equal(sheet[GAP : GAP + TILE, GAP : GAP + TILE].transpose(2, 0, 1), original)


def test_without_a_source_and_with_one_that_lost_its_files(make_folder, rgb_codec, tmp_path):
    root = make_folder(each=4)
    prepare(open_source(str(root)), rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert contact_sheet(tmp_path / "out", num=5).size == (GAP + 4 * (TILE + GAP), GAP + 2 * (TILE + CAPTION + GAP))
    (root / "train/cat/00.png").unlink()
    sheet = contact_sheet(tmp_path / "out", source=open_source(str(root)), num=8)
    assert sheet.width == GAP + 3 * (2 * TILE + GAP)


def test_the_selection_is_seeded(make_folder, rgb_codec, tmp_path):
    prepare(open_source(str(make_folder())), rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    first = contact_sheet(tmp_path / "out", num=2, split="test")
    assert first == contact_sheet(tmp_path / "out", num=2, split="test")
    assert first != contact_sheet(tmp_path / "out", num=2, split="test", seed=1)


def test_refusals(make_folder, rgb_codec, tmp_path):
    with pytest.raises(CallError, match="is not a data set"):
        contact_sheet(tmp_path)
    source = open_source(str(make_folder(splits=("train", "test"))))
    prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    with pytest.raises(CallError, match=r"split 'dev' of .*out does not exist; splits with samples: "):
        contact_sheet(tmp_path / "out", split="dev")
    other = open_source(str(make_folder("other", splits=("train", "test"), classes=("owl",))))
    with pytest.raises(
        CallError, match=r"source other has none of the selected samples \(the first is test/cat/.*; give the source"
    ):
        contact_sheet(tmp_path / "out", source=other, split="test")
    single = open_source(str(make_folder("single", splits=("train",))))
    with pytest.raises(CallError, match="source single has no split 'test', only train; give the source"):
        contact_sheet(tmp_path / "out", source=single, split="test")
