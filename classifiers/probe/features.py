"""Features of stored samples: pooled latents, pooled pixels, or those of a frozen pretrained network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from classifiers.models.backbones import pretrained_identity, resolve_model
from classifiers.models.classifier import LatentClassifier, create_model
from classifiers.models.grids import default_block
from classifiers.models.stems import SynthesisStem
from walloc_cdl.data import LatentDataset, LatentLoader, ModelInput
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.linear.synthesis import choose_block
from walloc_cdl.threads import torch_threads

POOLED = ("latents", "pixels")
"""The features that need no network."""
LATENT_CELLS = 4
"""Regions a side (or in time) over which mean and deviation of each latent channel are computed."""
PIXEL_CELLS = 16
PIXEL_DEVIATION_CELLS = 8
BATCH_SIZE = 256
NETWORK_BATCH_SIZE = 32


class Features(ABC):
    """Computes features of the samples of a data set."""

    title: str
    batch_size: int = BATCH_SIZE

    @abstractmethod
    def build(self, dataset: LatentDataset) -> nn.Module:
        """Return the module that computes features (B, F) from codes uint8 (B, K, …), or from rows."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what the features depend on besides the data, as JSON."""


class PooledFeatures(Features):
    """Mean and standard deviation of each channel in regions of the sample, of the latents or of the pixels.

    Latents: 4 × 4 regions, so 8·4 values for each channel; those of audio, 4 regions in time. Pixels, of the grid that
    has as many values as are stored: means of 16 × 16 regions and deviations of 8 × 8.
    """

    def __init__(self, name: str) -> None:
        if name not in POOLED:
            raise unknown_name("features", name, POOLED, f"choose {' or '.join(POOLED)}, or a network with --model")
        self.name, self.title = name, f"pooled {name}"

    def build(self, dataset: LatentDataset) -> nn.Module:
        """See `Features.build`."""
        model_input = ModelInput(
            dataset.spec, dataset.statistics, 1.0, levels=dataset.levels, grid=tuple(dataset.latent_shape[1:])
        )
        if self.name == "latents":
            return nn.Sequential(model_input, _Pool(LATENT_CELLS, LATENT_CELLS))
        if dataset.spec.kind != "image":
            raise CallError(f"{dataset.folder} holds {dataset.spec.kind}, which has no pixels; use pooled latents")
        layer = choose_block(dataset.synthesis_bank, default_block(dataset.spec))
        stem = SynthesisStem.fold(layer, model_input, layer.pixel_mean, layer.pixel_std)
        return nn.Sequential(model_input, stem, _Pool(PIXEL_CELLS, PIXEL_DEVIATION_CELLS))

    def identity(self) -> dict[str, Any]:
        """See `Features.identity`."""
        return {"pooled": self.name, "cells": [LATENT_CELLS, PIXEL_CELLS, PIXEL_DEVIATION_CELLS]}


class NetworkFeatures(Features):
    """What the last layer of a frozen pretrained network sees, through the synthesis stem.

    `weights` is a safetensors file; None downloads the published ones. Without a `grid` the network sees pixels as in
    timm's evaluation, see `create_model`.
    """

    batch_size = NETWORK_BATCH_SIZE

    def __init__(self, name: str, weights: Path | None = None, grid: int | None = None) -> None:
        self._name, self._pretrained, self._grid = resolve_model(name), weights or True, grid
        if weights is not None and (weights.suffix != ".safetensors" or not weights.is_file()):
            raise CallError(
                f"weights {str(weights)!r} are not a safetensors file; name one, or convert a checkpoint with "
                "`cdl weights convert`"
            )
        self.title = f"frozen {name}"

    def build(self, dataset: LatentDataset) -> nn.Module:
        """See `Features.build`."""
        if dataset.spec.kind != "image":
            raise CallError(f"{dataset.folder} holds {dataset.spec.kind}: no network of images sees it; omit --model")
        return _Network(create_model(self._name, dataset, grid=self._grid, pretrained=self._pretrained))

    def identity(self) -> dict[str, Any]:
        """See `Features.identity`."""
        return {
            "network": self._name,
            "weights": pretrained_identity(self._name, self._pretrained),
            "grid": self._grid,
        }


def compute_features(
    features: Features,
    dataset: LatentDataset,
    *,
    device: torch.device,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Returns the features float32 (N, F) of all samples, in their order.

    Raises `CallError` for samples that differ in size, and what `Features.build` does.
    """
    if dataset.layout.ragged:
        raise CallError(
            f"the samples of {dataset.folder} differ in size, and probes need one size; prepare them with --geometry "
            "fixed"
        )
    module = features.build(dataset).eval().to(device)
    loader = LatentLoader(dataset, features.batch_size, device=device, shuffle=False, drop_last=False)
    parts, done = [], 0
    with torch.inference_mode(), torch_threads(threads):
        for codes, _ in loader:
            parts.append(module(codes).float().cpu().numpy())
            done += len(codes)
            if progress:
                progress(done, len(dataset))
    return np.concatenate(parts)


class _Pool(nn.Module):
    """Means over `cells` regions a side, and deviations over `deviation_cells`, of (B, C, h, w) or (B, C, t)."""

    def __init__(self, cells: int, deviation_cells: int) -> None:
        super().__init__()
        self._cells, self._deviation_cells = cells, deviation_cells

    def forward(self, x: Tensor) -> Tensor:
        pool = adaptive_avg_pool2d if x.ndim == 4 else adaptive_avg_pool1d
        mean = pool(x, self._deviation_cells)
        deviation = (pool(x * x, self._deviation_cells) - mean**2).clamp_min(0).sqrt()
        return torch.cat([pool(x, self._cells).flatten(1), deviation.flatten(1)], 1)


class _Network(nn.Module):
    """The features of a classifier's network before its last layer."""

    def __init__(self, model: LatentClassifier) -> None:
        super().__init__()
        self._model = model

    def forward(self, codes: Tensor) -> Tensor:
        backbone = self._model.backbone
        features = backbone.forward_features(self._model.pixels(codes))
        return backbone.forward_head(features, pre_logits=True).flatten(1)
