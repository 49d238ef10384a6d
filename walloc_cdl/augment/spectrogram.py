"""`SpectrogramAugmentation`: shifts in time, and masks over time and frequency as in SpecAugment (Park et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from walloc_cdl.augment.config import SpectrogramAugmentConfig
from walloc_cdl.augment.draws import Draws


class SpectrogramAugmentation:
    """Augments normalized spectrograms; every random number follows from the samples' words.

    >>> augment = SpectrogramAugmentation(SpectrogramAugmentConfig(shift=True))
    >>> augment(spectrograms, words, mean, std).shape                                 # doctest: +SKIP
    torch.Size([64, 1, 64, 192])
    """

    def __init__(self, config: SpectrogramAugmentConfig) -> None:
        self.config = config

    def __call__(self, grid: Tensor, words: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return augmented spectrograms (B, C, bands, columns); masks are filled with the mean, which is 0.

        `words`, uint64 (B,), are those of `LatentLoader.with_words`; `mean` and `std` are not needed.
        """
        config, draws = self.config, Draws(words.to(grid.device))
        if config.shift:
            columns = grid.shape[3]
            starts = draws.below("shift", columns)
            places = (torch.arange(columns, device=grid.device) + starts[:, None]) % columns
            grid = grid.gather(3, places[:, None, None].expand_as(grid))
        if config.gain:
            grid = grid + draws.uniform("gain", -config.gain, config.gain)[:, None, None, None].to(grid.dtype)
        for name, share, axis in (("time", config.time_mask, 3), ("bands", config.band_mask, 2)):
            for number in range(config.num_masks if share else 0):
                grid = grid.masked_fill(_masks(draws.named(f"{name}/{number}"), grid, share, axis), 0.0)
        return grid


def _masks(draws: Draws, grid: Tensor, share: float, axis: int) -> Tensor:
    """Return which positions along an axis are covered, bool (B, 1, bands, 1) or (B, 1, 1, columns)."""
    length = grid.shape[axis]
    widths = draws.uniform("width", 0, share * length)
    firsts = draws.uniform("first") * (length - widths)
    places = torch.arange(length, device=grid.device) + 0.5
    covered = (places >= firsts[:, None]) & (places < (firsts + widths)[:, None])
    return covered[:, None, None] if axis == 3 else covered[:, None, :, None]
