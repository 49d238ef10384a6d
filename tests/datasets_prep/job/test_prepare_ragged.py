"""Ragged geometry end to end: images and clips at their own size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets_prep import PrepareConfig, contact_sheet, open_source, prepare
from datasets_prep.decode.images import load_whole
from datasets_prep.forecast import forecast
from tests.support.pictures import picture
from tests.support.sounds import sound, write_sound
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec1D, ResizeConfig1D, to_bytes
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, load_provenance, verify

RAGGED = PrepareConfig(geometry="ragged", shard_samples=4, workers=0)
SIDES = [(64, 48), (1, 1), (33, 70), (9, 4), (40, 40), (5, 31), (100, 30)]


@pytest.fixture
def photos(tmp_path):
    """Images of many sizes, one of them broken: `CLASS/N.png`."""
    for number, (width, height) in enumerate(SIDES):
        folder = tmp_path / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, width, height).save(folder / f"{number}.png")
    (tmp_path / "photos/cat/3.png").write_bytes(b"-")
    return tmp_path / "photos"


@pytest.fixture
def prepared(photos, rgb_codec, tmp_path):
    manifest = prepare(open_source(str(photos)), rgb_codec, tmp_path / "out", RAGGED)
    return tmp_path / "out", manifest


def stored_samples(folder):
    """Key, codes, size and label of every sample of the train split."""
    dataset = open_latents(folder)
    found = []
    for number in range(dataset.stored.num_shards):
        shard = dataset.stored.shard(number)
        for row, key in enumerate(shard.keys(range(len(shard)))):
            found.append((key, shard.sample_codes(row), shard.sizes[row].tolist(), int(shard.labels[row])))
    return found


def test_every_image_keeps_its_size(photos, prepared, rgb_codec):
    folder, manifest = prepared
    assert manifest.to_json()["geometry"] == "ragged"
    assert manifest.latent_shape == (3, None, None)
    assert manifest.preprocessing["padding"] == "to the stride, edge repeated at the right and bottom"
    assert "size" not in manifest.preprocessing
    assert verify(folder, full=True).problems == []
    samples = stored_samples(folder)
    assert len(samples) == len(SIDES)
    for key, codes, size, label in samples:
        pixels = load_whole(photos / key, 3)
        assert size == list(pixels.shape[1:])
        assert manifest.class_names[label] == key.partition("/")[0]
        missing = [(0, 0), *((0, -side % 4) for side in size)]
        padded = torch.from_numpy(np.pad(pixels, missing, mode="edge"))
        np.testing.assert_array_equal(codes, rgb_codec.encode(padded[None])[0])
    assert load_provenance(folder)["flip_rate"]["num_codes"] > 0
    assert not manifest.files.keys() & {"codec/synthesis.safetensors", "codec/operators.safetensors"}


def test_decoding_and_cropping_restores_the_image(photos, prepared, rgb_codec):
    key, codes, size, _ = next(sample for sample in stored_samples(prepared[0]) if sample[0] == "dog/5.png")
    decoded = to_bytes(rgb_codec.decode(torch.from_numpy(codes.copy())[None]))[0, :, : size[0], : size[1]].numpy()
    original = load_whole(photos / key, 3)
    assert decoded.shape == original.shape
    assert np.mean((decoded.astype(float) - original) ** 2) < 40**2


def test_workers_and_interruptions_change_nothing(photos, prepared, rgb_codec, tmp_path):
    source = open_source(str(photos))
    prepare(source, rgb_codec, tmp_path / "workers", replace(RAGGED, workers=2))
    assert contents(tmp_path / "workers") == contents(prepared[0])

    def stop(state):
        if state.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, rgb_codec, tmp_path / "stopped", RAGGED, progress=stop)
    prepare(source, rgb_codec, tmp_path / "stopped", RAGGED)
    assert contents(tmp_path / "stopped") == contents(prepared[0])


def test_duplicates_are_dropped(photos, rgb_codec, tmp_path):
    (photos / "dog/copy.png").write_bytes((photos / "cat/0.png").read_bytes())
    manifest = prepare(open_source(str(photos)), rgb_codec, tmp_path / "out", replace(RAGGED, drop_duplicates=True))
    assert manifest.splits["train"].num_samples == len(SIDES)
    assert verify(tmp_path / "out", full=True).problems == []


def test_crops_are_read_in_batches(prepared):
    dataset = open_latents(prepared[0])
    with pytest.raises(
        CallError, match=r"samples of split 'train' are smaller than the crop of 2x2 latents; the first"
    ):
        LatentLoader(dataset, 2, crop=(2, 2))
    codes, labels = next(iter(LatentLoader(dataset, 4, crop=(1, 1))))
    assert codes.shape == (4, 3, 1, 1)
    assert labels.shape == (4,)


def test_a_forecast_extrapolates(photos, prepared, rgb_codec):
    expected = forecast(open_source(str(photos)), rgb_codec, RAGGED)
    assert expected.latent_shape == (3, None, None)
    actual = sum(entry.num_bytes for entry in load_manifest(prepared[0]).shards)
    assert expected.shard_bytes == pytest.approx(actual, rel=0.35)


def test_a_contact_sheet_shows_images_at_their_aspect(photos, prepared):
    sheet = np.asarray(contact_sheet(prepared[0], num=7))
    assert sheet.std() > 10
    with_source = np.asarray(contact_sheet(prepared[0], num=7, source=open_source(str(photos))))
    assert with_source.shape[1] > sheet.shape[1] / 2


def test_whole_clips_are_stored(tmp_path):
    codec = ResizeCodec1D(ResizeConfig1D(channels=1, factor=4, sample_rate=8000, name="resize-mono-4x"))
    lengths = [900, 150, 1, 4001]
    for number, length in enumerate(lengths):
        write_sound(tmp_path / f"sounds/hum/{number}.wav", sound(number, length))
    source = open_source(f"audiofolder:{tmp_path / 'sounds'}")
    manifest = prepare(source, codec, tmp_path / "out", RAGGED)
    assert manifest.latent_shape == (1, None)
    assert {"segment_samples", "hop_samples", "short_clips", "rest"}.isdisjoint(manifest.preprocessing)
    assert verify(tmp_path / "out", full=True).problems == []
    samples = stored_samples(tmp_path / "out")
    assert [(key, size) for key, _, size, _ in samples] == [
        (f"hum/{n}.wav", [length]) for n, length in enumerate(lengths)
    ]
    for _, codes, size, _ in samples:
        assert codes.shape == (1, -(-size[0] // codec.stride))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 32}, "size is 32, but with geometry ragged samples keep their own size"),
        ({"crop": "pad"}, "crop is pad, but with geometry ragged"),
    ],
)
def test_settings_of_a_size_are_refused(photos, rgb_codec, tmp_path, changes, message):
    with pytest.raises(CallError, match=message):
        prepare(open_source(str(photos)), rgb_codec, tmp_path / "out", replace(RAGGED, **changes))
    assert not (tmp_path / "out").exists()


def test_impossible_geometries_are_refused(tmp_path, rgb_codec):
    with pytest.raises(CallError, match="unknown geometry 'raged'; nearest: ragged"):
        PrepareConfig(geometry="raged")
    with pytest.raises(CallError, match="views 'flip' with geometry ragged; views have one size"):
        PrepareConfig(geometry="ragged", views="flip")
    np.save(tmp_path / "a.npy", np.zeros((4, 3, 16, 16), np.uint8))
    with pytest.raises(CallError, match="holds arrays, which are cut into patches; omit it"):
        prepare(open_source(f"npy:{tmp_path / 'a.npy'}"), rgb_codec, tmp_path / "out", RAGGED)
