"""`PixelAugmentation`: the pipeline of augmentation."""

from __future__ import annotations

from torch import Tensor

from walloc_cdl.augment import color
from walloc_cdl.augment.config import AugmentConfig
from walloc_cdl.augment.draws import Draws
from walloc_cdl.augment.erasing import RandomErasing
from walloc_cdl.augment.geometry import RandomResizedCrop, composed, flips, rotations, sample
from walloc_cdl.augment.levels import PixelLevels
from walloc_cdl.augment.policies import RandAugment, TrivialAugment
from walloc_cdl.errors import CallError

POLICIES = {"rand": RandAugment(), "trivial": TrivialAugment()}


class PixelAugmentation:
    """Augments normalized pixels; every random number follows from the samples' words.

    >>> augment = PixelAugmentation(AugmentConfig(scale=(0.35, 1.0), hflip=0.5))
    >>> augment(pixels, words, mean, std).shape                                       # doctest: +SKIP
    torch.Size([64, 3, 128, 128])
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self._crop = None if config.scale is None else RandomResizedCrop(config.scale, config.ratio)
        self._policy = None if config.auto_augment is None else POLICIES[config.auto_augment]
        self._erasing = RandomErasing(config.reprob) if config.reprob else None

    def __call__(
        self, pixels: Tensor, words: Tensor, mean: Tensor, std: Tensor, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Return augmented pixels (B, C, *size), of the same size by default.

        `pixels` are (v - mean) / std of values v from 0 to 1, mean and std (C,); `words`, uint64 (B,), are those of
        `LatentLoader.with_words`. Values are clamped to 0 to 1 where colors change, as pixels in a file are.
        """
        size = size or (pixels.shape[2], pixels.shape[3])
        levels = PixelLevels(len(pixels), {(pixels.shape[2], pixels.shape[3]): lambda samples: pixels})
        return self.of_levels(levels, words.to(pixels.device), mean, std, size)

    @property
    def crops(self) -> bool:
        """Whether parts of the images are enlarged, for which larger grids have detail."""
        return self._crop is not None

    def of_levels(self, levels: PixelLevels, words: Tensor, mean: Tensor, std: Tensor, size: tuple[int, int]) -> Tensor:
        """Return augmented pixels (B, C, *size) of a batch on several grids; see the call and `PixelLevels`."""
        draws = Draws(words.to(mean.device))
        pixels = self._place(levels, draws, size)
        if self.config.color_jitter or self.config.hue or self._policy is not None:
            center, spread = mean.reshape(1, -1, 1, 1), std.reshape(1, -1, 1, 1)
            values = self._recolor((pixels * spread + center).clamp(0, 1), draws)
            pixels = (values - center) / spread
        return pixels if self._erasing is None else self._erasing(pixels, draws.named("erasing"))

    def _place(self, levels: PixelLevels, draws: Draws, size: tuple[int, int]) -> Tensor:
        """Return the pixels cropped, flipped and rotated, in one interpolation."""
        height, width = levels.sizes[0]
        maps = self._maps(draws, height, width)
        if maps is None:
            pixels = levels.all_of((height, width))
            if size != (height, width):
                raise CallError(
                    f"pixels of {height} × {width} for a model of {size[0]} × {size[1]}, and nothing crops them"
                )
            return pixels
        groups = levels.choose(maps, size)
        if groups[0][0] is None:
            return sample(groups[0][1], maps.to(groups[0][1].dtype), size)
        result = None
        for samples, pixels in groups:
            part = sample(pixels, maps[samples].to(pixels.dtype), size)
            if result is None:
                result = part.new_empty((levels.count, *part.shape[1:]))
            result[samples] = part
        return result

    def _maps(self, draws: Draws, height: int, width: int) -> Tensor | None:
        """Return the map of each sample (B, 2, 3), for images of these proportions; None if nothing moves."""
        config, maps = self.config, []
        for axis, (name, probability) in enumerate((("hflip", config.hflip), ("vflip", config.vflip))):
            if probability:
                maps.append(flips(draws.happens(name, probability), axis=axis))
        if config.rotation:
            angles = draws.uniform("rotation", -config.rotation, config.rotation)
            maps.append(rotations(angles, width / height))
        if self._crop is not None:
            maps.append(self._crop.maps(draws.named("crop"), height, width))
        total = maps[0] if maps else None
        for step in maps[1:]:
            total = composed(total, step)
        return total

    def _recolor(self, values: Tensor, draws: Draws) -> Tensor:
        """Return values from 0 to 1 in other colors."""
        config, strength = self.config, self.config.color_jitter
        for name, change in (
            ("brightness", color.brightness),
            ("contrast", color.contrast),
            ("saturation", color.saturation),
        ):
            if strength:
                values = change(values, draws.uniform(name, max(0.0, 1 - strength), 1 + strength))
        if config.hue:
            values = color.hue(values, draws.uniform("hue", -config.hue, config.hue))
        return values if self._policy is None else self._policy(values, draws.named("policy"))
