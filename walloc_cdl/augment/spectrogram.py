"""`SpectrogramAugmentation`: shifts in time, and masks over time and frequency as in SpecAugment (Park et al. 2019)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from walloc_cdl.augment.draws import Draws
from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class SpectrogramAugmentConfig:
    """Settings of the augmentation of sound; defaults change nothing. Raises `CallError` for values out of range."""

    shift: bool = False
    """Whether a sound begins at a random moment; its end then precedes its beginning."""
    gain: float = 0.0
    """Largest change of loudness, as a multiple of the spectrograms' standard deviation."""
    time_mask: float = 0.0
    """Largest share of the columns that a mask covers."""
    band_mask: float = 0.0
    """Largest share of the mel bands that a mask covers."""
    num_masks: int = 1
    """Number of masks of each kind."""

    def __post_init__(self) -> None:
        for name in ("time_mask", "band_mask"):
            if not 0 <= getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; expected a share from 0 to less than 1")
        if not 0 <= self.gain <= 10:
            raise CallError(f"gain is {self.gain}; expected 0 to 10 standard deviations")
        if self.num_masks < 1:
            raise CallError(f"num_masks is {self.num_masks}; expected at least 1")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, for canonical JSON."""
        return dataclasses.asdict(self)


SOUND_PRESETS = {
    "none": SpectrogramAugmentConfig(),
    "light": SpectrogramAugmentConfig(shift=True, time_mask=0.25, band_mask=0.25),
    "timm": SpectrogramAugmentConfig(shift=True, gain=0.3, time_mask=0.25, band_mask=0.25, num_masks=2),
}
"""The presets have the names of those of images: `light` shifts and masks once, `timm` changes more."""


class SpectrogramAugmentation:
    """Augments normalized spectrograms; every random number follows from the samples' words.

    >>> augment = SpectrogramAugmentation(SOUND_PRESETS["light"])
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
