"""Stored views; a random crop is determined by the sample's key and the view only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep import PrepareConfig, load_pixels, open_source, prepare
from datasets_prep.decode.views import AREA, RandomCrop, ViewedImagePreparation, draw_crop, parse_views
from datasets_prep.decode.worker import decode_chunk
from datasets_prep.forecast import forecast
from datasets_prep.samples.stored import KeyedSample
from datasets_prep.sources.core.splits import holdout
from tests.support.pictures import encoded, picture
from tests.support.rows_first import resized_by_pillow
from tests.support.trees import contents
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, load_provenance, verify

SMALL = PrepareConfig(size=32, shard_samples=5, workers=0, views="flip,crops:2", batch=3)


@pytest.mark.parametrize("text", ["", "flip,flip", "crops", "crops:0", "crops:65", "crops:-1", "mirror", "flip:2"])
def test_wrong_views_are_refused(text):
    with pytest.raises(CallError, match=r"views '.*': .*; choose from flip and crops:N, such as flip,crops:4"):
        parse_views(text)


@settings(max_examples=200, deadline=None)
@given(width=st.integers(1, 4000), height=st.integers(1, 4000), key=st.text(max_size=20))
def test_random_crops_lie_in_the_image_and_follow_from_key_and_view(width, height, key):
    crop = draw_crop(key, "crop-1", width, height)
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert crop == draw_crop(key, "crop-1", width, height)


def test_crops_differ_by_key_and_view_and_cover_the_documented_range():
    crops = [draw_crop(f"photo {key}.jpg", view, 640, 480) for key in range(500) for view in ("crop-1", "crop-2")]
    assert len({crop.box for crop in crops}) > 990
    shares = [(r - left) * (b - top) / (640 * 480) for left, top, r, b in (crop.box for crop in crops)]
    assert min(shares) > AREA[0] * 0.97
    assert np.quantile(shares, [0.25, 0.75]) == pytest.approx([0.27, 0.62], abs=0.08)
    assert np.mean([crop.mirrored for crop in crops]) == pytest.approx(0.5, abs=0.07)
    # Pinned, since another version of this program must be able to resume a job.
    assert draw_crop("cat/0.jpg", "crop-1", 640, 480) == RandomCrop((11, 189, 293, 461), True)


def test_each_view_matches_its_name():
    image = picture(0, 50, 40)
    preparation = ViewedImagePreparation(3, 32, view_names=parse_views("flip,crops:1"))
    views = preparation.load(KeyedSample("a.png", encoded(image)))
    assert (views.dtype, views.shape) == (np.uint8, (3, 3, 32, 32))
    np.testing.assert_array_equal(views[0], load_pixels(encoded(image), 32, 3))
    np.testing.assert_array_equal(views[1], views[0][..., ::-1])
    crop = draw_crop("a.png", "crop-1", 50, 40)
    cut = np.asarray(resized_by_pillow(image, (32, 32), "lanczos", crop.box)).transpose(2, 0, 1)
    np.testing.assert_array_equal(views[2], cut[..., ::-1] if crop.mirrored else cut)


def test_a_chunk_without_usable_samples_has_the_shape_of_views():
    preparation = ViewedImagePreparation(1, 16, view_names=("center", "flip"))
    chunk = decode_chunk([KeyedSample("a", b"-"), KeyedSample("b", b"")], preparation)
    assert chunk.signals.shape == (0, 2, 1, 16, 16)
    assert chunk.reasons == {0: "not an image of a known format", 1: "empty file"}
    assert len(set(chunk.hashes)) == 2


def test_data_sets_of_views(make_folder, rgb_codec, tmp_path):
    root = make_folder()
    (root / "train/dog/01.png").write_bytes(b"-")
    source = open_source(str(root))
    manifest = prepare(source, rgb_codec, tmp_path / "views", SMALL)
    assert manifest.views == ["center", "flip", "crop-1", "crop-2"]
    assert manifest.preprocessing["views"] == manifest.views
    assert manifest.preprocessing["random_crops"]["area"] == [0.08, 1.0]
    assert verify(tmp_path / "views", full=True).problems == []
    prepare(source, rgb_codec, tmp_path / "plain", replace(SMALL, views=None))
    for split in ("train", "test"):
        plain, viewed = open_latents(tmp_path / "plain", split), open_latents(tmp_path / "views", split)
        rows = range(len(plain))
        assert viewed.keys(rows) == plain.keys(rows)
        np.testing.assert_array_equal(viewed.labels, plain.labels)
        np.testing.assert_array_equal(viewed.gather(rows)[0], plain.gather(rows)[0])
        mirrored = open_latents(tmp_path / "views", split, view=1).gather(rows)[0]
        for row, key in enumerate(plain.keys(rows)):
            pixels = load_pixels(root / key, 32, 3)[..., ::-1].copy()
            np.testing.assert_array_equal(mirrored[row], rgb_codec.encode(torch.from_numpy(pixels)[None])[0])
    assert load_provenance(tmp_path / "views")["flip_rate"]["num_codes"] == 11 * 3 * 8 * 8


@pytest.mark.parametrize("changes", [{"workers": 2}, {"batch": 32}])
def test_workers_and_batches_change_nothing(make_folder, rgb_codec, tmp_path, changes):
    source = open_source(str(make_folder()))
    prepare(source, rgb_codec, tmp_path / "a", SMALL)
    prepare(source, rgb_codec, tmp_path / "b", replace(SMALL, **changes))
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    for name in a:
        if not name.endswith("manifest.json"):
            assert a[name] == b[name], name
    assert load_manifest(tmp_path / "a").shards == load_manifest(tmp_path / "b").shards


def test_interruptions_change_nothing(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder()))
    prepare(source, rgb_codec, tmp_path / "whole", SMALL)
    for stop_at in range(1, 4):

        def stop(state, stop_at=stop_at):
            if state.done >= 5 * stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(source, rgb_codec, tmp_path / "stopped", SMALL, progress=stop)
    prepare(source, rgb_codec, tmp_path / "stopped", SMALL)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_sample_keeps_its_crops_in_another_division_of_the_source(make_folder, rgb_codec, tmp_path):
    source = open_source(str(make_folder(splits=("",), each=8)))
    prepare(source, rgb_codec, tmp_path / "whole", SMALL)
    prepare(holdout(source, 0.5, 0), rgb_codec, tmp_path / "cut", SMALL)
    whole = open_latents(tmp_path / "whole", view=3)
    expected = dict(zip(whole.keys(range(16)), whole.gather(range(16))[0], strict=True))
    for split in ("train", "test"):
        part = open_latents(tmp_path / "cut", split, view=3)
        rows = range(len(part))
        for key, codes in zip(part.keys(rows), part.gather(rows)[0], strict=True):
            assert torch.equal(codes, expected[key])


def test_duplicates_with_views_are_dropped(make_folder, rgb_codec, tmp_path):
    root = make_folder(splits=("",))
    (root / "cat/copy.png").write_bytes((root / "cat/00.png").read_bytes())
    manifest = prepare(open_source(str(root)), rgb_codec, tmp_path / "out", replace(SMALL, drop_duplicates=True))
    assert manifest.splits["train"].num_samples == 12
    assert verify(tmp_path / "out", full=True).problems == []


def test_a_forecast_counts_views(make_folder, rgb_codec):
    source = open_source(str(make_folder()))
    plain, viewed = (forecast(source, rgb_codec, replace(SMALL, views=views)) for views in (None, SMALL.views))
    assert viewed.shard_bytes - plain.shard_bytes == 24 * 3 * 3 * 8 * 8


def test_views_are_of_image_files_only(tmp_path, rgb_codec):
    np.save(tmp_path / "a.npy", np.zeros((4, 3, 16, 16), np.uint8))
    with pytest.raises(CallError, match=r"views is flip, but source .* is of kind array; only image files are"):
        prepare(open_source(f"npy:{tmp_path / 'a.npy'}"), rgb_codec, tmp_path / "out", PrepareConfig(views="flip"))
