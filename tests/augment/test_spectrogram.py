"""Augmentation of spectrograms: what each operation changes, and that it follows from the words."""

import pytest
import torch

from walloc_cdl.augment.config import SOUND_PRESETS, SpectrogramAugmentConfig
from walloc_cdl.augment.spectrogram import SpectrogramAugmentation
from walloc_cdl.errors import CallError

GRID = torch.arange(1, 1 + 6 * 2 * 16 * 40).reshape(6, 2, 16, 40).float()
WORDS = torch.arange(6, dtype=torch.int64).mul(1_234_567_891_234_567).view(torch.uint64)


def augmented(grid=GRID, words=WORDS, **settings):
    return SpectrogramAugmentation(SpectrogramAugmentConfig(**settings))(grid, words, torch.zeros(2), torch.ones(2))


def test_a_shift_turns_each_sound_around_in_time():
    shifts = []
    for before, after in zip(GRID, augmented(shift=True), strict=True):
        found = [n for n in range(40) if torch.equal(before.roll(-n, 2), after)]
        assert len(found) == 1
        shifts += found
    assert len(set(shifts)) > 2


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 3), ("band_mask", 2)])
def test_a_mask_covers_one_stretch_of_all_channels(name, axis):
    covered = augmented(**{name: 0.5}) == 0
    length = GRID.shape[axis]
    assert covered.any()
    assert (covered.all(1) == covered.any(1)).all()
    for sample in covered[:, 0]:
        line = sample.all(1 if axis == 2 else 0)
        assert torch.equal(line, sample.any(1 if axis == 2 else 0))
        places = line.nonzero()[:, 0].tolist()
        assert len(places) <= length / 2 + 1
        assert not places or places == list(range(places[0], places[-1] + 1))


def test_each_sample_follows_from_its_own_word():
    settings = {"shift": True, "gain": 0.5, "time_mask": 0.3, "band_mask": 0.3, "num_masks": 2}
    whole = augmented(**settings)
    for row in (0, 3, 5):
        assert torch.equal(augmented(GRID[row : row + 1], WORDS[row : row + 1], **settings)[0], whole[row])
    assert not torch.equal(augmented(words=WORDS.flip(0), **settings), whole)


def test_no_augmentation_changes_nothing():
    assert torch.equal(SpectrogramAugmentation(SOUND_PRESETS["none"])(GRID, WORDS, torch.zeros(2), torch.ones(2)), GRID)


@pytest.mark.parametrize("settings", [{"time_mask": 1.0}, {"band_mask": -0.1}, {"gain": 11}, {"num_masks": 0}])
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(CallError, match=next(iter(settings))):
        SpectrogramAugmentConfig(**settings)
