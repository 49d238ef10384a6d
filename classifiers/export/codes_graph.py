"""Stored codes and rows to the model input, by gathers and products alone, which every runtime has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.models.classifier import LatentClassifier
from walloc_cdl.planes.rows import plane_bytes, plane_shifts
from walloc_cdl.spec import count_planes


class CodesToInput(nn.Module):
    """Looks up the model input float32 (B, K, h, w), or (B, K, t), of codes of the same shape."""

    table: Tensor
    """float32 (256 K,): the values of all bytes, channel by channel."""
    first: Tensor
    """int64 (1, K, 1, 1), or (1, K, 1): where the values of each channel begin."""

    def __init__(self, table: Tensor, dimensions: int) -> None:
        """`table` is (K, 256); `dimensions` is 2 for images and 1 for audio."""
        super().__init__()
        self.register_buffer("table", table.detach().float().flatten().clone())
        self.register_buffer("first", torch.arange(len(table)).reshape(1, -1, *[1] * dimensions) * table.shape[1])

    def forward(self, codes: Tensor) -> Tensor:
        """Returns the model input of codes, uint8 or int64."""
        return self.table[codes.long() + self.first]


class RowsToCodes(nn.Module):
    """Unpacks rows of bit planes uint8 (B, R) to codes int64 (B, K, h, w).

    The bits of each byte are looked up, and a product with powers of two, exact in float32, adds them up.
    """

    bits: Tensor
    """float32 (256, 8): the bits of each byte, the lowest first."""
    weights: Tensor
    """float32 (K, P): the value of each plane's bit in the code of its channel, zero for the others."""

    def __init__(self, planes: tuple[int, ...], grid: tuple[int, ...]) -> None:
        super().__init__()
        bits = np.arange(256)[:, None] >> np.arange(8) & 1
        weights = np.zeros((count_planes(planes)[0], len(planes)), np.float32)
        weights[list(planes), np.arange(len(planes))] = 2.0 ** plane_shifts(planes)
        self.register_buffer("bits", torch.from_numpy(bits.astype(np.float32)))
        self.register_buffer("weights", torch.from_numpy(weights))
        self._num_planes, self._plane_bytes, self._grid = len(planes), plane_bytes(grid), grid

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the codes of rows."""
        bits = self.bits[rows.long()].reshape(-1, self._num_planes, 8 * self._plane_bytes)
        codes = torch.matmul(self.weights, bits)[:, :, : int(np.prod(self._grid))]
        return codes.reshape(-1, self.weights.shape[0], *self._grid).long()


class InputToLogits(nn.Module):
    """The classifier after its lookup: stem, network, and the scale of targets of regression."""

    def __init__(self, model: LatentClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits, or predicted targets, (B, num_classes)."""
        outputs = self.model.backbone(self.model.augmented_pixels(x, None))
        return outputs if self.model.scale is None else self.model.scale(outputs)
