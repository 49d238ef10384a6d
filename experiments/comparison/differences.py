"""Confidence intervals for the difference between two conditions.

An interval combines the spread over seeds (Student's t over paired differences) with the bootstrap over test samples,
in quadrature. With two seeds t is 12.7, so such a comparison mostly says that more seeds are needed, as it should. One
seed says nothing about that spread, so it gets no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, t

NUM_DRAWS = 1_000
"""Number of bootstrap draws of the test samples."""
CHUNK_DRAWS = 50
"""Number of draws that are scored together, which bounds the memory."""


@dataclass(frozen=True)
class Difference:
    """The metric of a condition minus that of its baseline, paired by seed and by test sample."""

    condition: str
    baseline: str
    mean: float
    low: float | None
    high: float | None
    """Bounds of the 95 % interval; None with a single seed."""
    per_seed: list[float]

    def to_json(self) -> dict[str, object]:
        """Returns plain values."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `not shown to differ`, or `not judged` if there is no interval."""
        if self.low is None or self.high is None:
            return "not judged"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not shown to differ"


def signed(value: float) -> str:
    """Format a difference with three digits, and with a sign unless it is zero to three digits.

    >>> signed(0.0124), signed(-0.5), signed(0.0004), signed(-0.0)
    ('+0.012', '-0.500', '0.000', '0.000')
    """
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def accuracy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the fraction of the weight on samples whose most probable class is the label, by row of `weights`.

    The most probable classes (N,) may be given in place of the probabilities.
    """
    predicted = probabilities if probabilities.ndim == 1 else probabilities.argmax(1)
    return weights @ (predicted == labels) / weights.sum(1)


def auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns, for each row of `weights`, the area under the ROC curve of class 1; NaN where a class has no weight.

    It is the fraction, by weight, of the pairs of a positive and a negative sample in which the positive one
    has the higher probability of class 1; ties count half.
    """
    order = np.argsort(probabilities[:, 1])
    ties = np.flatnonzero(np.diff(probabilities[order, 1], prepend=-np.inf))
    positives = np.add.reduceat((weights * (labels == 1))[:, order], ties, axis=1)
    negatives = np.add.reduceat((weights * (labels == 0))[:, order], ties, axis=1)
    below = negatives.cumsum(1) - negatives / 2
    pairs = positives.sum(1) * negatives.sum(1)
    return (positives * below).sum(1) / np.where(pairs, pairs, np.nan)


Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Computes a metric (D,) from labels (N,), probabilities (N, classes) and weights (D, N) of the samples.

A bootstrap draw is a row of weights, so that many draws are scored together.
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
    """Compute the difference of `metric`, with a 95 % interval that covers both new seeds and new test samples.

    `condition` and `baseline` are a name and, for each seed, probabilities (N, classes) on the same N test samples, or
    for the accuracy the predicted classes (N,).
    The half width is √(a² + b²): a = t₀.₉₇₅(n-1) · s / √n from the paired differences of the n seeds, and b = 1.96
    times the standard error by bootstrap over the test samples, which are the same for every seed. With one seed,
    a is undefined, so there is no interval.
    """
    score = METRICS[metric]
    pairs = list(zip(condition[1], baseline[1], strict=True))
    ones = np.ones((1, len(labels)))
    per_seed = [float((score(labels, first, ones) - score(labels, second, ones))[0]) for first, second in pairs]
    mean, num_seeds = float(np.mean(per_seed)), len(per_seed)
    if num_seeds == 1:
        return Difference(condition[0], baseline[0], mean, None, None, per_seed)
    over_seeds = float(t.ppf(0.975, num_seeds - 1) * np.std(per_seed, ddof=1) / np.sqrt(num_seeds))
    over_samples = float(norm.ppf(0.975)) * _bootstrap_error(score, pairs, labels, seed)
    half_width = float(np.hypot(over_seeds, over_samples))
    return Difference(condition[0], baseline[0], mean, mean - half_width, mean + half_width, per_seed)


def paired_sample_difference(
    condition: tuple[str, np.ndarray], baseline: tuple[str, np.ndarray], *, seed: int = 0
) -> Difference:
    """Compute the mean difference of two figures of each sample, with a 95 % interval by bootstrap over the samples.

    `condition` and `baseline` are a name and float (N,), such as whether a frozen classifier is right, on the same
    samples, one at least; no run is involved whose seed could matter. The bounds are the 2.5th and 97.5th percentile
    of `NUM_DRAWS` means.
    """
    values = np.asarray(condition[1], np.float64) - np.asarray(baseline[1], np.float64)
    mean = float(values.mean())
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(0, len(values), (CHUNK_DRAWS, len(values)))].mean(1)
        for _ in range(NUM_DRAWS // CHUNK_DRAWS)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Difference(condition[0], baseline[0], mean, float(low), float(high), [mean])


def _bootstrap_error(score: Score, pairs: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, seed: int) -> float:
    """Returns the standard error of the mean difference over seeds, by bootstrap over the test samples."""
    generator = np.random.default_rng(seed)
    draws = []
    for start in range(0, NUM_DRAWS, CHUNK_DRAWS):
        shape = (min(CHUNK_DRAWS, NUM_DRAWS - start), len(labels))
        rows = generator.integers(0, len(labels), shape)
        weights = np.stack([np.bincount(drawn, minlength=len(labels)) for drawn in rows])
        draws.append(
            np.mean([score(labels, first, weights) - score(labels, second, weights) for first, second in pairs], 0)
        )
    return float(np.nanstd(np.concatenate(draws)))  # the AUC of a draw with one class is NaN
