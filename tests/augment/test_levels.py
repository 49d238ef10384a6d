"""Crops are read from the grid that has their detail, each sample by itself."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from walloc_cdl.augment.config import PRESETS, AugmentConfig
from walloc_cdl.augment.draws import Draws
from walloc_cdl.augment.geometry import boxes, sample
from walloc_cdl.augment.levels import PixelLevels
from walloc_cdl.augment.pipeline import PixelAugmentation

MEAN, STD = torch.zeros(3), torch.ones(3)


@pytest.fixture
def finest():
    return torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def levels_of(finest, sides):
    def render(pixels):
        return lambda samples: pixels if samples is None else pixels[samples]

    return PixelLevels(len(finest), {(side, side): render(avg_pool2d(finest, 64 // side)) for side in sides})


def test_each_sample_is_read_from_the_smallest_grid_that_has_its_crop(finest):
    shares = torch.tensor([1.0, 0.95, 0.7, 0.5, 0.49, 0.3, 0.1])
    maps = boxes(torch.zeros(7), torch.zeros(7), shares, shares)
    groups = levels_of(finest[:7], (16, 32, 64)).choose(maps, (16, 16))
    assert [(samples.tolist(), pixels.shape[2]) for samples, pixels in groups] == [
        ([0, 1], 16),
        ([2, 3, 4], 32),
        ([5, 6], 64),
    ]


def test_a_batch_of_one_grid_is_made_at_once(finest):
    maps = boxes(*(torch.zeros(12), torch.zeros(12), torch.ones(12), torch.ones(12)))
    ((samples, pixels),) = levels_of(finest, (16, 32)).choose(maps, (16, 16))
    assert samples is None
    assert pixels.shape == (12, 3, 16, 16)


def test_crops_have_the_detail_of_the_finest_grid(finest):
    words = torch.arange(12) * 977
    augment = PixelAugmentation(AugmentConfig(scale=(0.05, 0.08), hflip=0.5))
    found = augment.of_levels(levels_of(finest, (16, 32, 64)), words, MEAN, STD, (16, 16))
    exact = augment(finest, words, MEAN, STD, size=(16, 16))
    torch.testing.assert_close(found, exact)
    blurred = augment.of_levels(levels_of(finest, (16,)), words, MEAN, STD, (16, 16))
    assert (blurred - exact).square().mean() > 0.02


@pytest.mark.parametrize("preset", ["light", "timm"])
def test_a_sample_does_not_depend_on_its_batch(finest, preset):
    words = torch.arange(12) * 977
    augment = PixelAugmentation(PRESETS[preset])
    whole = augment.of_levels(levels_of(finest, (16, 32, 64)), words, MEAN, STD, (16, 16))
    parts = [
        augment.of_levels(levels_of(finest[part], (16, 32, 64)), words[part], MEAN, STD, (16, 16))
        for part in (slice(0, 5), slice(5, 12))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_the_grid_does_not_move_the_crop(finest):
    """A ramp is the same on all grids, so its crops are, too."""
    ramp = torch.linspace(0, 1, 64).expand(12, 3, 64, 64).contiguous()
    words = torch.arange(12) * 977
    augment = PixelAugmentation(AugmentConfig(scale=(0.2, 0.6), hflip=0.5, vflip=0.5))
    found = augment.of_levels(levels_of(ramp, (16, 32, 64)), words, MEAN, STD, (16, 16))
    maps = augment._crop.maps(Draws(words).named("crop"), 16, 16)
    inside = slice(1, -1)
    plain = sample(ramp, maps, (16, 16))
    mirrored = Draws(words).happens("hflip", 0.5)
    plain[mirrored] = plain[mirrored].flip(3)
    torch.testing.assert_close(found[..., inside], plain[..., inside], atol=0.02, rtol=0)
