"""Chooses the pixel grid of a classifier, and how a model of another size sees it."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from timm.models import PretrainedCfg
from torch import Tensor
from torch.nn.functional import interpolate

from classifiers.models.config import INTERPOLATIONS, PixelFit
from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError
from walloc_cdl.linear.synthesis import LinearSynthesis
from walloc_cdl.spec import LatentSpec


def default_block(spec: LatentSpec) -> int:
    """Returns the side in pixels per latent at which the pixels have as many values as bytes are stored.

    It is 2 for 12 channels of RGB and for 96 bit planes of RGB, and 1 for pixels.
    """
    stored_bytes = spec.num_planes / 8 if spec.num_planes else spec.latent_channels
    return max(1, round((stored_bytes / spec.source_channels) ** 0.5))


def offered_blocks(dataset: LatentDataset, stem: str) -> Collection[int]:
    """Returns the sides in pixels per latent that the data set and the stem can have."""
    return sorted(dataset.synthesis_bank) if stem == "synthesis" else range(1, dataset.spec.stride + 1)


def require_grid(grid: int, height: int, blocks: Collection[int]) -> int:
    """Returns `grid`; raises `CallError`, with those that are possible, unless it is a block times `height`."""
    if grid < 1 or grid % height or grid // height not in blocks:
        offered = ", ".join(str(height * block) for block in sorted(blocks))
        raise CallError(f"a grid of {grid} pixels does not go with latents of height {height}; choose one of {offered}")
    return grid


def published_grid(
    published: PretrainedCfg, latent_sides: tuple[int, int], blocks: Collection[int], crop_pct: float | None = None
) -> tuple[int, PixelFit | None]:
    """Returns the height of the grid on which a model sees pixels as it was trained on them, and how it sees them.

    Where the model's size is a multiple of the latents', the grid is of that size. Elsewhere it is the smallest one
    that covers the size to which timm's evaluation resizes images, or else the largest one, and the pixels are fitted
    as in that evaluation. `crop_pct` replaces that of the weights, and then holds for every data set: with 1 all see
    the whole image, with less the center of a larger grid.
    """
    _, height, width = published.input_size
    for block in blocks if crop_pct in (None, 1) else ():
        if (latent_sides[0] * block, latent_sides[1] * block) == (height, width):
            return height, None
    crop_pct = crop_pct or published.crop_pct or 0.875
    interpolation = published.interpolation if published.interpolation in INTERPOLATIONS else "bicubic"
    fit = PixelFit((height, width), crop_pct, interpolation)
    wanted = min(_resized_sides(fit))
    block = min((block for block in blocks if min(latent_sides) * block >= wanted), default=max(blocks))
    return latent_sides[0] * block, fit


def published_channels_grid(published: PretrainedCfg, stride: int, height: int, blocks: Collection[int]) -> int | None:
    """Returns the grid on which latents replace a convolution of this stride exactly; None if there is none.

    Of the blocks that divide the stride, it is the one whose grid is nearest to the size of the weights.
    """
    fitting = [block for block in blocks if stride % block == 0]
    nearest = min(fitting, key=lambda block: abs(height * block - published.input_size[1]), default=None)
    return None if nearest is None else height * nearest


def pixel_normalization(
    published: PretrainedCfg | None, spec: LatentSpec, layer: LinearSynthesis
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation (C,) for pixels in [-0.5, 0.5].

    They are those that `published` weights expect, averaged over the colors for gray images, as timm does with the
    weights; those of the data without such weights, and for other numbers of channels.
    """
    if published is not None and spec.source_channels in (1, 3):
        mean, std = (np.asarray(each, np.float64) for each in (published.mean, published.std))
        if spec.source_channels == 1:
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        return mean - 0.5, std
    return layer.pixel_mean, layer.pixel_std


def fit_pixels(pixels: Tensor, fit: PixelFit) -> Tensor:
    """Returns normalized pixels (B, C, H, W) as the model's input (B, C, *fit.size); see `PixelFit`."""
    height, width = pixels.shape[2:]
    sides = _resized_sides(fit)
    share = max(sides[0] / height, sides[1] / width)
    resized = (max(sides[0], round(height * share)), max(sides[1], round(width * share)))
    if resized != (height, width):
        pixels = interpolate(pixels, size=resized, mode=fit.interpolation, antialias=True)
    top, left = (round((side - length) / 2) for side, length in zip(resized, fit.size, strict=True))
    return pixels[:, :, top : top + fit.size[0], left : left + fit.size[1]]


def _resized_sides(fit: PixelFit) -> tuple[int, int]:
    height, width = fit.size
    return math.floor(height / fit.crop_pct), math.floor(width / fit.crop_pct)
