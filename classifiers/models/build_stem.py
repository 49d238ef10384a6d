"""The grid and the stem of a classifier, chosen and built for the latents of a data set and a timm model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from timm.models import PretrainedCfg
from torch import nn

from classifiers.models.adapt import adapt_to_latents, compose, composes, first_convolution
from classifiers.models.backbones import build_structure
from classifiers.models.config import ClassifierConfig, PixelFit
from classifiers.models.grids import (
    default_block,
    offered_blocks,
    pixel_normalization,
    published_channels_grid,
    published_grid,
    require_grid,
)
from classifiers.models.stems import ChannelsStem, SynthesisStem
from walloc_cdl.data import LatentDataset, ModelInput
from walloc_cdl.errors import CallError
from walloc_cdl.linear.synthesis import choose_block


def choose_grid(
    dataset: LatentDataset,
    name: str,
    stem: str,
    grid: int | None,
    published: PretrainedCfg | None,
    crop_pct: float | None = None,
) -> tuple[int, PixelFit | None]:
    """Returns the height of the grid, and how its pixels are fitted to a model of another size.

    Raises `CallError` for a `crop_pct` out of range, and where no pixels are fitted.
    """
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise CallError(f"crop_pct is {crop_pct:g}; it must be above 0 and at most 1")
    if crop_pct is not None and (published is None or stem != "synthesis" or grid is not None):
        raise CallError(
            f"crop_pct is {crop_pct:g}, but the model sees the whole grid; it is for pretrained weights at their own "
            "size with the synthesis stem: omit it, or the grid"
        )
    blocks = offered_blocks(dataset, stem)
    height, width = dataset.latent_shape[1:]
    if grid is not None:
        return require_grid(grid, height, blocks), None
    if published is not None and stem == "synthesis" and blocks:
        return published_grid(published, (height, width), blocks, crop_pct)
    if published is not None and stem == "channels":
        first = first_convolution(build_structure(name))
        grid = None if first is None else published_channels_grid(published, first.stride[0], height, blocks)
        if grid is not None:
            return grid, None
    return require_grid(height * default_block(dataset.spec), height, blocks), None


def synthesis_stem(
    dataset: LatentDataset, config: ClassifierConfig, published: PretrainedCfg | None, model_input: ModelInput
) -> tuple[SynthesisStem, tuple[np.ndarray, np.ndarray]]:
    """Returns the synthesis stem of a data set, and the normalization of its pixels."""
    layer = choose_block(dataset.synthesis_bank, config.block)
    normalization = pixel_normalization(published, config.spec, layer)
    return SynthesisStem.fold(layer, model_input, *normalization), normalization


def composes_with(name: str, dataset: LatentDataset, grid: int) -> bool:
    """Returns whether the first convolution of a model and the synthesis of a grid are one convolution on latents."""
    block = grid // dataset.latent_shape[1]
    first = first_convolution(build_structure(name))
    return first is not None and block in dataset.synthesis_bank and composes(first, block)


def channels_stem(
    backbone: nn.Module, config: ClassifierConfig, synthesis: Callable[[], SynthesisStem]
) -> ChannelsStem:
    """Remove the first convolution of `backbone`, and return the stem in its place, which `synthesis` may be a part of.

    Raises `CallError` as `adapt_to_latents` does.
    """
    first = first_convolution(backbone)
    conv = adapt_to_latents(backbone, config.name, config.spec.latent_channels, config.block)
    if config.is_composed and first is not None and composes(first, config.block):
        return compose(first, synthesis())
    return ChannelsStem(conv)
