"""Features of images: of a frozen network, or of an image pyramid, which needs no network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from classifiers.models.pixel_classifier import PixelClassifier

COLOR_CELLS = 8
DETAIL_CELLS = 4
NUM_LEVELS = 5
FLOOR = 1 / 255
"""Added to mean details before the logarithm, one step of the pixels."""


class ImageFeatures(ABC):
    """Computes features of images, uint8 (N, C, S, S)."""

    title: str
    """What people call them."""
    weights: str | None = None

    @abstractmethod
    def compute(self, images: Tensor) -> Tensor:
        """Returns float32 (N, F), on the CPU."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Returns what the features depend on besides the images, as JSON."""


class PyramidFeatures(ImageFeatures):
    """Means of the colors in 8 × 8 cells, and how much detail of three orientations each of 4 × 4 cells has.

    At each of five levels of an image pyramid, a 2 × 2 Haar transform of the luma gives horizontal, vertical and
    diagonal details; their mean magnitudes in each cell are taken as logarithms. So colors, layout and texture decide.
    """

    title = "pyramid features"

    def compute(self, images: Tensor) -> Tensor:
        """See `ImageFeatures.compute`; the side must be a multiple of 8."""
        pixels = images.float() / 255
        parts = [adaptive_avg_pool2d(pixels, COLOR_CELLS).flatten(1)]
        luma = pixels.mean(1, keepdim=True)
        for _ in range(NUM_LEVELS):
            if luma.shape[2] < 2 * DETAIL_CELLS:
                break
            first, second = luma[:, :, 0::2], luma[:, :, 1::2]
            corners = [row[..., place::2] for row in (first, second) for place in (0, 1)]
            for signs in ((1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1)):
                detail = sum(sign * corner for sign, corner in zip(signs, corners, strict=True)) / 4
                parts.append(
                    (adaptive_avg_pool2d(torch.as_tensor(detail).abs(), DETAIL_CELLS) + FLOOR).log().flatten(1)
                )
            luma = avg_pool2d(luma, 2)
        return torch.cat(parts, 1)

    def identity(self) -> dict[str, Any]:
        """See `ImageFeatures.identity`."""
        return {"pyramid": [COLOR_CELLS, DETAIL_CELLS, NUM_LEVELS]}


class NetworkFeatures(ImageFeatures):
    """What the last layer of a frozen pretrained network sees."""

    def __init__(self, network: PixelClassifier, weights: str) -> None:
        self.title, self.weights = f"features of {network.name}", weights
        self._network = network

    def compute(self, images: Tensor) -> Tensor:
        """See `ImageFeatures.compute`."""
        return self._network.features(images)

    def identity(self) -> dict[str, Any]:
        """See `ImageFeatures.identity`."""
        network = self._network
        return {
            "network": network.name,
            "weights": self.weights,
            "input": list(network.input_size),
            "crop_share": network.crop_share,
        }
