"""`TargetScale`: the units of regression targets, so that a network's outputs of order one become targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class TargetScale(nn.Module):
    """Computes targets (B, T) from a network's outputs (B, T): output × std + mean.

    Both are saved with the model. Its loss is that of `standardized` targets, so that targets of large units do not
    drown the others, and one learning rate does for all units.
    """

    mean: Tensor
    """float32 (T,)."""
    std: Tensor
    """float32 (T,), above 0."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def of(cls, targets: np.ndarray) -> TargetScale:
        """Build the scale of targets (N,) or (N, T), NaN where unknown; a target that is constant has deviation 1."""
        columns = [column[~np.isnan(column)] for column in targets.reshape(len(targets), -1).astype(np.float64).T]
        means = np.array([column.mean() if len(column) else 0.0 for column in columns])
        deviations = np.array([column.std() if len(column) else 0.0 for column in columns])
        deviations[deviations <= 1e-6 * np.abs(means)] = 1.0
        return cls(torch.from_numpy(means).float(), torch.from_numpy(deviations).float())

    @classmethod
    def ones(cls, num_targets: int) -> TargetScale:
        """Build a scale that changes nothing, to load another into."""
        return cls(torch.zeros(num_targets), torch.ones(num_targets))

    def forward(self, outputs: Tensor) -> Tensor:
        """Returns targets in their own units."""
        return outputs * self.std + self.mean

    def standardized(self, targets: Tensor) -> Tensor:
        """Returns targets (B, T) with mean 0 and deviation 1 over the training split: the inverse of `forward`."""
        return (targets - self.mean) / self.std
