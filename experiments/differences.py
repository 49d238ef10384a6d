"""How far a difference between two conditions can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, t

DRAWS = 1_000
"""Bootstrap draws of the test samples."""
CHUNK_DRAWS = 50
"""Draws scored at once, which bounds the memory."""


@dataclass(frozen=True)
class Difference:
    """Metric of one condition minus that of its baseline, paired by seed and by test sample."""

    condition: str
    baseline: str
    mean: float
    low: float | None
    high: float | None
    """Ends of the 95 % interval; None with one seed, which says nothing of the spread over seeds."""
    per_seed: list[float]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `not shown to differ`, or `not judged` where there is no interval."""
        if self.low is None or self.high is None:
            return "not judged"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not shown to differ"


def accuracy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the weight on samples whose most probable class is the label, for each row of `weights`."""
    return weights @ (probabilities.argmax(1) == labels) / weights.sum(1)


def auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of class 1's probability, for each row of `weights`; NaN where a class has no weight.

    The share of the weight of all pairs of a positive and a negative sample in which the positive one
    has the higher probability; ties count half.
    """
    order = np.argsort(probabilities[:, 1])
    ties = np.flatnonzero(np.diff(probabilities[order, 1], prepend=-np.inf))
    positives = np.add.reduceat((weights * (labels == 1))[:, order], ties, axis=1)
    negatives = np.add.reduceat((weights * (labels == 0))[:, order], ties, axis=1)
    below = negatives.cumsum(1) - negatives / 2
    pairs = positives.sum(1) * negatives.sum(1)
    return (positives * below).sum(1) / np.where(pairs, pairs, np.nan)


Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""A metric of labels (N,) and probabilities (N, classes), (D,) for weights (D, N) of the samples.

A bootstrap draw is a row of weights, so that all draws are scored at once.
"""

METRICS: dict[str, Score] = {"accuracy": accuracy, "auc": auc}


def paired_difference(
    condition: tuple[str, Sequence[np.ndarray]],
    baseline: tuple[str, Sequence[np.ndarray]],
    labels: np.ndarray,
    metric: str,
    *,
    seed: int = 0,
) -> Difference:
    """Difference of `metric` with a 95 % interval for new seeds and new test samples together.

    Each side is a name and, seed by seed, probabilities (N, classes) on the same N test samples. The
    half width is √(a² + b²): a = t₀.₉₇₅(n-1) · s / √n from the n seeds' paired differences (with two
    seeds t is 12.7: few seeds are an honest reason for a wide interval), b = 1.96 times the standard
    error by bootstrap over the test samples, which are the same in every seed. One seed gives no a, and
    so no interval.
    """
    score = METRICS[metric]
    pairs = list(zip(condition[1], baseline[1], strict=True))
    once = np.ones((1, len(labels)))
    per_seed = [float((score(labels, ours, once) - score(labels, theirs, once))[0]) for ours, theirs in pairs]
    mean, num_seeds = float(np.mean(per_seed)), len(per_seed)
    if num_seeds == 1:
        return Difference(condition[0], baseline[0], mean, None, None, per_seed)
    over_seeds = float(t.ppf(0.975, num_seeds - 1) * np.std(per_seed, ddof=1) / np.sqrt(num_seeds))
    over_samples = float(norm.ppf(0.975)) * _bootstrap_error(score, pairs, labels, seed)
    half = float(np.hypot(over_seeds, over_samples))
    return Difference(condition[0], baseline[0], mean, mean - half, mean + half, per_seed)


def _bootstrap_error(score: Score, pairs: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, seed: int) -> float:
    """Standard error of the seeds' mean difference, drawing test samples with replacement."""
    generator = np.random.default_rng(seed)
    draws = []
    for start in range(0, DRAWS, CHUNK_DRAWS):
        shape = (min(CHUNK_DRAWS, DRAWS - start), len(labels))
        rows = generator.integers(0, len(labels), shape)
        weights = np.stack([np.bincount(drawn, minlength=len(labels)) for drawn in rows])
        draws.append(
            np.mean([score(labels, ours, weights) - score(labels, theirs, weights) for ours, theirs in pairs], 0)
        )
    return float(np.nanstd(np.concatenate(draws)))  # a draw of one class has no AUC
