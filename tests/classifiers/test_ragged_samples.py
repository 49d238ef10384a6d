"""Samples that differ in size: crops in training, tiles or the whole in evaluation; and the mean over stored views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from classifiers import Reading, TrainConfig, create_model, evaluate, load_classifier, predict, train
from classifiers.evaluation.reading import tiles_of
from datasets_prep import PrepareConfig, open_source, prepare
from tests.support.sounds import sound, write_sound
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError

QUICK = TrainConfig(epochs=3, batch_size=8, lr=2e-3, val_interval=0)
SIDES = [(64, 64), (96, 72), (64, 120), (80, 80), (136, 64), (72, 88)]


def striped(seed: int, width: int, height: int, across: bool) -> Image.Image:
    rng = np.random.default_rng(seed)
    moments = np.arange(height if across else width) * 0.4 + rng.uniform(0, 6)
    wave = 128 + 80 * np.sin(moments)
    pattern = np.broadcast_to(wave[:, None] if across else wave[None], (height, width))
    pixels = pattern[..., None] + rng.normal(0, 20, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for split, offset in (("train", 0), ("test", 50)):
        for label, across in (("across", True), ("along", False)):
            (folder / split / label).mkdir(parents=True)
            for number in range(len(SIDES)):
                picture = striped(offset + number, *SIDES[number], across)
                picture.save(folder / split / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def ragged(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ragged") / "set"
    prepare(
        open_source(f"imagefolder:{photos}"), load_codec("rgb-16x"), folder, PrepareConfig(geometry="ragged", workers=0)
    )
    return {split: open_latents(folder, split) for split in ("train", "test")}


@pytest.mark.parametrize("stem", ["synthesis", "channels"])
def test_crops_are_learned_and_whole_photos_answered(ragged, tmp_path, stem):
    def build():
        return create_model("test_resnet", ragged["train"], stem=stem, crop=(8, 8))

    record = train(
        build,
        ragged["train"],
        ragged["test"],
        TrainConfig(epochs=8, batch_size=8, lr=4e-3, val_interval=0),
        tmp_path / "run",
    )
    assert record.metrics.num_samples == 2 * len(SIDES)
    assert record.metrics.accuracy > 0.9
    model = load_classifier(tmp_path / "run")
    assert model.config.latent_shape == (12, 8, 8)
    assert evaluate(model, ragged["test"], reading=Reading(ragged="whole")).accuracy > 0.9


def test_the_synthesis_of_crops_is_that_of_the_codec(ragged):
    model = create_model("test_resnet", ragged["train"], crop=(8, 8), grid=64)
    codes = torch.stack([ragged["train"][row].codes[:, :8, :8] for row in (0, 6, 9)])
    pixels = model.stem(model.input(codes)) * model.stem.pixel_std[:, None, None] + model.stem.pixel_mean[:, None, None]
    expected = ragged["train"].codec.decode(codes) + 0.5
    assert float((pixels - expected).square().mean().sqrt()) < 0.03


def test_logits_are_means_over_tiles_that_cover_the_sample(ragged):
    torch.manual_seed(0)
    model = create_model("test_resnet", ragged["train"], crop=(8, 8)).eval()
    found = predict(model, ragged["test"], batch_size=5).logits
    for row in range(len(ragged["test"])):
        tiles = tiles_of(ragged["test"][row].codes, (8, 8))
        np.testing.assert_allclose(found[row], model(tiles).mean(0).detach(), atol=1e-4)
    whole = predict(model, ragged["test"], reading=Reading(ragged="whole")).logits
    np.testing.assert_allclose(whole[2], model(ragged["test"][2].codes[None])[0].detach(), atol=1e-4)


@pytest.mark.parametrize(("length", "starts"), [(4, [0]), (5, [0, 1]), (8, [0, 4]), (9, [0, 2, 5]), (13, [0, 3, 6, 9])])
def test_tiles_are_as_few_as_cover_the_sample_and_evenly_spaced(length, starts):
    codes = torch.arange(2 * length * 6).reshape(2, length, 6)
    tiles = tiles_of(codes, (4, 6))
    assert tiles.shape == (len(starts), 2, 4, 6)
    assert [int(tile[0, 0, 0]) // 6 for tile in tiles] == starts


def test_sounds_of_any_length(tmp_path):
    for split in ("train", "test"):
        for label, seed in (("hum", 0), ("whistle", 50)):
            for clip in range(4):
                write_sound(
                    tmp_path / "sounds" / split / label / f"{clip}.wav", sound(seed + clip, 9000 + 700 * clip), 44100
                )
    config = PrepareConfig(geometry="ragged", workers=0)
    prepare(open_source(f"audiofolder:{tmp_path / 'sounds'}"), load_codec("mono-16x"), tmp_path / "set", config)
    sets = [open_latents(tmp_path / "set", split) for split in ("train", "test")]
    crop = (int(min(sets[0][row].codes.shape[1] for row in range(8))) // 2,)
    record = train(lambda: create_model("test_resnet", sets[0], crop=crop, grid=32), *sets, QUICK, tmp_path / "run")
    assert record.metrics.num_samples == 8
    model = load_classifier(tmp_path / "run")
    assert predict(model, sets[1], reading=Reading(ragged="whole")).logits.shape == (8, 2)


def test_the_crop_is_a_part_of_the_run(ragged, tmp_path):
    def build(crop):
        return lambda: create_model("test_resnet", ragged["train"], stem="channels", crop=crop)

    train(build((8, 8)), ragged["train"], None, QUICK, tmp_path / "run")
    with pytest.raises(CallError, match=r"latent_shape|crop"):
        train(build((4, 8)), ragged["train"], None, QUICK, tmp_path / "run")


def test_wrong_calls_say_what_would_work(ragged):
    with pytest.raises(CallError, match=r"differ in size; give the crop in latents .* at most 8x8 \(--crop"):
        create_model("test_resnet", ragged["train"])
    with pytest.raises(CallError, match=r"smaller than the crop of 9x8 latents"):
        create_model("test_resnet", ragged["train"], crop=(9, 8))
    with pytest.raises(CallError, match=r"crop 8; expected height and width in latents, such as 16x16"):
        create_model("test_resnet", ragged["train"], crop=(8,))
    model = create_model("test_vit3", ragged["train"], crop=(8, 8))
    with pytest.raises(CallError, match=r"does not take a whole sample of .* choose tiles"):
        predict(model, ragged["test"], reading=Reading(ragged="whole"))


def test_logits_are_means_over_stored_views(photos, tmp_path):
    config = PrepareConfig(size=64, views="flip,crops:1", workers=0)
    prepare(open_source(f"imagefolder:{photos}"), load_codec("rgb-16x"), tmp_path / "set", config)
    torch.manual_seed(0)
    dataset = open_latents(tmp_path / "set", "test")
    model = create_model("test_resnet", dataset)
    found = predict(model, dataset, batch_size=7, reading=Reading(views="mean"))
    views = [
        predict(model, open_latents(tmp_path / "set", "test", view=view)).logits for view in range(dataset.num_views)
    ]
    assert len(views) == dataset.num_views > 2
    assert np.abs(views[0] - views[1]).max() > 1e-4
    np.testing.assert_allclose(found.logits, np.mean(views, 0), atol=1e-5)


def test_a_mean_over_one_view_is_refused(rgb16):
    with pytest.raises(CallError, match=r"stores one view per sample, so there is no mean; choose one view"):
        predict(create_model("test_resnet", rgb16), rgb16, reading=Reading(views="mean"))
