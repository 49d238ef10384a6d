"""The pipeline of pixel augmentation: its randomness, its presets, wrong settings."""

import dataclasses

import pytest
import torch

from walloc_cdl.augment.config import PRESETS, AugmentConfig
from walloc_cdl.augment.draws import Draws
from walloc_cdl.augment.erasing import RandomErasing
from walloc_cdl.augment.geometry import RandomResizedCrop
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.errors import CallError

MEAN, STD = torch.tensor([0.48, 0.45, 0.40]), torch.tensor([0.23, 0.22, 0.22])
ALL = AugmentConfig(scale=(0.2, 1), hflip=0.5, rotation=20, color_jitter=0.4, hue=0.1, auto_augment="rand", reprob=0.5)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(16, 3, 20, 20, generator=generator)
    words = torch.randint(-(2**63), 2**63 - 1, (16,), generator=generator)
    return (values - MEAN[:, None, None]) / STD[:, None, None], words


def augmented(config, pixels, words, **settings):
    return PixelAugmentation(config)(pixels, words, MEAN, STD, **settings)


@pytest.mark.parametrize("config", [PRESETS["light"], PRESETS["timm"], ALL, AugmentConfig(auto_augment="trivial")])
def test_a_sample_does_not_depend_on_its_batch(batch, config):
    pixels, words = batch
    whole = augmented(config, pixels, words)
    assert not torch.equal(whole, pixels)
    parts = [augmented(config, pixels[part], words[part]) for part in (slice(0, 5), slice(5, 16))]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_other_words_give_other_pixels_and_the_same_give_the_same(batch):
    pixels, words = batch
    first = augmented(ALL, pixels, words)
    assert torch.equal(first, augmented(ALL, pixels, words))
    assert not torch.equal(first, augmented(ALL, pixels, words + 1))


def test_none_changes_nothing_and_costs_nothing(batch):
    pixels, words = batch
    assert augmented(PRESETS["none"], pixels, words) is pixels


def test_a_flip_changes_nothing_else(batch):
    pixels, words = batch
    found = augmented(AugmentConfig(hflip=0.5), pixels, words)
    mirrored = Draws(words).happens("hflip", 0.5)
    assert 0 < mirrored.sum() < 16
    torch.testing.assert_close(found[mirrored], pixels[mirrored].flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[~mirrored], pixels[~mirrored], atol=1e-4, rtol=0)


def test_a_larger_grid_is_cropped_to_the_models(batch):
    pixels, words = batch
    assert augmented(PRESETS["light"], pixels, words, size=(12, 14)).shape == (16, 3, 12, 14)
    with pytest.raises(CallError, match="20 × 20 for a model of 12 × 14, and nothing crops them"):
        augmented(PRESETS["none"], pixels, words, size=(12, 14))


def test_crops_have_the_shares_and_aspects_asked_for():
    words = torch.arange(4000)
    maps = RandomResizedCrop((0.25, 0.5), (0.8, 1.25)).maps(Draws(words), 30, 40)
    across, down = maps[:, 0, 0], maps[:, 1, 1]
    area, aspect = across * down, across * 40 / (down * 30)
    assert 0.25 - 1e-4 <= area.min() < 0.26
    assert 0.49 < area.max() <= 0.5 + 1e-4
    assert 0.8 - 1e-4 <= aspect.min() < 0.82
    assert 1.22 < aspect.max() <= 1.25 + 1e-4
    assert (maps[:, 0, 2].abs() <= 1 - across + 1e-5).all()  # within the image
    assert (maps[:, 1, 2].abs() <= 1 - down + 1e-5).all()
    assert abs(maps[:, :, 2].mean()) < 0.02
    whole = RandomResizedCrop((1, 1), (1, 1)).maps(Draws(words[:3]), 30, 40)  # no such box fits
    torch.testing.assert_close(whole[0], torch.tensor([[0.75, 0, 0], [0, 1.0, 0]]))


def test_erased_boxes_have_the_share_asked_for(batch):
    pixels, words = batch
    erased = RandomErasing(1.0, scale=(0.1, 0.3), noise=False)(pixels, Draws(words)) == 0
    share = erased.float().mean((1, 2, 3))
    assert 0.05 < share.min() < share.max() < 0.36
    assert 4 < (RandomErasing(0.5)(pixels, Draws(words)) != pixels).any(3).any(2).any(1).sum() < 13


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0, 1)}, r"a crop of \(0, 1\) of the area"),
        ({"scale": (0.5, 0.2)}, "ascending"),
        ({"ratio": (2, 1)}, r"an aspect of \(2, 1\)"),
        ({"hflip": 1.5}, r"hflip is 1\.5; expected a probability from 0 to 1"),
        ({"rotation": 200}, "rotation is 200; expected 0 to 180"),
        ({"hue": 0.6}, r"hue is 0\.6; expected 0 to 0\.5"),
        ({"auto_augment": "randd"}, "'randd'.*rand"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(CallError, match=message):
        dataclasses.replace(AugmentConfig(), **settings)
