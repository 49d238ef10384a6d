"""Calibration: whether what a classifier says with a probability of 0.8 is right in 80 % of the cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from walloc_cdl.errors import CallError

NUM_BINS = 15
"""Bins of equal width from 0 to 1, as in Guo et al. 2017 and in torchmetrics."""


@dataclass(frozen=True)
class Calibration:
    """Predictions in bins of their confidence, bin b from b / 15 to (b + 1) / 15.

    Raises `CallError` for lists of untrusted values that are no such bins.
    """

    samples: list[int]
    """Number of predictions of each bin."""
    confidence: list[float]
    """Mean confidence of each bin; 0 for an empty one."""
    accuracy: list[float]
    """Share of right predictions of each bin; 0 for an empty one."""

    def __post_init__(self) -> None:
        lists = {"samples": self.samples, "confidence": self.confidence, "accuracy": self.accuracy}
        for name, values in lists.items():
            largest = 2**48 if name == "samples" else 1
            if len(values) != NUM_BINS or not all(0 <= value <= largest for value in values):
                raise CallError(f"calibration, {name}: expected {NUM_BINS} numbers from 0 to {largest}")

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |accuracy - confidence| over all predictions."""
        samples = np.array(self.samples, np.float64)
        distance = np.abs(np.array(self.accuracy) - np.array(self.confidence))
        return float((distance * samples).sum() / max(samples.sum(), 1))


def calibration_of(confidence: np.ndarray, is_right: np.ndarray) -> Calibration:
    """Return the bins of probabilities (N,) of events, and of whether each event happened, bool (N,)."""
    confidence = confidence.astype(np.float64).clip(0, 1)
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    samples = np.bincount(bins, minlength=NUM_BINS)
    means = (
        np.bincount(bins, weights, NUM_BINS) / np.maximum(samples, 1)
        for weights in (confidence, is_right.astype(np.float64))
    )
    confidences, accuracies = (mean.clip(0, 1).tolist() for mean in means)
    return Calibration(samples.tolist(), confidences, accuracies)
