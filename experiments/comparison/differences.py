"""Confidence intervals for the difference between two conditions.

Seeds and test samples are both drawn from many: a difference varies with the seed, with the sample, and with both. The
variance over seeds (Student's t over paired differences) and the variance by bootstrap over test samples each contain
what varies with both, so that it is counted once less: V = V_seeds + V_samples - V_both, as in a two-way layout
(Owen, The pigeonhole bootstrap, 2007). With two seeds t is 12.7, so such a comparison mostly says that more seeds are
needed, as it should. One seed says nothing about that spread, so it gets no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.stats import norm, t

from walloc_cdl.schema import MAY_BE_OMITTED

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
    simultaneous_low: float | None = field(default=None, metadata={MAY_BE_OMITTED: True})
    simultaneous_high: float | None = field(default=None, metadata={MAY_BE_OMITTED: True})
    """Bounds that hold for all differences of a comparison together with 95 %, after Bonferroni; None without them."""

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

    The most probable classes (N,) may be given in place of the probabilities; those of -1 do not count.
    """
    predicted = probabilities if probabilities.ndim == 1 else probabilities.argmax(1)
    return weights @ (predicted == labels) / (weights @ (predicted >= 0))


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
    num_comparisons: int = 1,
    over_seeds: bool = True,
    seed: int = 0,
) -> Difference:
    """Compute the difference of `metric`, with a 95 % interval that covers both new seeds and new test samples.

    `condition` and `baseline` are a name and, for each seed, probabilities (N, classes) on the same N test samples, or
    for the accuracy the predicted classes (N,).
    A class of -1 says that a seed did not test a sample; both of a pair must have tested the same ones.
    The half width is √(a² + b²): a = t₀.₉₇₅(n-1) · s / √n from the paired differences of the n seeds, and b = 1.96
    times the standard error by bootstrap over the test samples, which are the same for every seed, less what a has of
    it already (`shared_error`). With one seed, a is undefined, so there is no interval, unless `over_seeds` is false:
    then a is 0, for answers on which no seed has an influence. Of several comparisons the simultaneous bounds have the
    quantiles of 1 - 0.025 / `num_comparisons`.
    """
    score = METRICS[metric]
    pairs = list(zip(condition[1], baseline[1], strict=True))
    ones = np.ones((1, len(labels)))
    per_seed = [float((score(labels, first, ones) - score(labels, second, ones))[0]) for first, second in pairs]
    mean, num_seeds = float(np.mean(per_seed)), len(per_seed)
    if num_seeds == 1 and over_seeds:
        return Difference(condition[0], baseline[0], mean, None, None, per_seed)
    seed_error = float(np.std(per_seed, ddof=1) / np.sqrt(num_seeds)) if over_seeds else 0.0
    sample_error = _bootstrap_error(score, pairs, labels, seed)
    if over_seeds:
        sample_error = float(np.sqrt(max(sample_error**2 - shared_error(pairs, labels, metric) ** 2, 0)))

    def half_width(quantile: float) -> float:
        over = t.ppf(quantile, num_seeds - 1) * seed_error if over_seeds else 0.0
        return float(np.hypot(over, norm.ppf(quantile) * sample_error))

    own, joint = half_width(0.975), half_width(1 - 0.025 / num_comparisons)
    return Difference(condition[0], baseline[0], mean, mean - own, mean + own, per_seed, mean - joint, mean + joint)


def paired_sample_difference(
    condition: tuple[str, np.ndarray], baseline: tuple[str, np.ndarray], *, num_comparisons: int = 1, seed: int = 0
) -> Difference:
    """Compute the mean difference of two figures of each sample, with a 95 % interval by bootstrap over the samples.

    `condition` and `baseline` are a name and float (N,), such as whether a frozen classifier is right, on the same
    samples, one at least; no run is involved whose seed could matter. The bounds are the 2.5th and 97.5th percentile
    of `NUM_DRAWS` means; the simultaneous ones are those of 2.5 % / `num_comparisons`, of as many draws more.
    """
    values = np.asarray(condition[1], np.float64) - np.asarray(baseline[1], np.float64)
    mean = float(values.mean())
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(0, len(values), (CHUNK_DRAWS, len(values)))].mean(1)
        for _ in range(NUM_DRAWS * num_comparisons // CHUNK_DRAWS)
    ]
    drawn, rare = np.concatenate(means), 2.5 / num_comparisons
    low, high, joint_low, joint_high = map(float, np.percentile(drawn, [2.5, 97.5, rare, 100 - rare]))
    return Difference(condition[0], baseline[0], mean, low, high, [mean], joint_low, joint_high)


def shared_error(pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, metric: str) -> float:
    """Returns the standard error of the mean difference over seeds that comes from what varies with seed and sample.

    It is a part both of the error over seeds and of that over samples. For the accuracy it is √(σ² / (S·N)), σ² being
    the variance of the differences of a sample over S ≥ 2 seeds, averaged over the N samples.
    """
    influences = np.stack(
        [_influences(metric, first, labels) - _influences(metric, second, labels) for first, second in pairs]
    )
    return float(np.sqrt(influences.var(0, ddof=1).sum() / len(pairs)))


def _influences(metric: str, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how far each sample (N,) moves the metric from its value; they sum to zero.

    For the AUC these are the structural components of DeLong, DeLong and Clarke-Pearson (1988).
    """
    if metric == "accuracy":
        predicted = answers if answers.ndim == 1 else answers.argmax(1)
        tested = predicted >= 0
        right = (predicted == labels)[tested]
        influences = np.zeros(len(labels))
        influences[tested] = (right - right.mean()) / len(right)
        return influences
    from scipy.stats import rankdata

    positive, values = labels == 1, answers[:, 1]
    influences = np.zeros(len(labels))
    ranks = rankdata(values)
    for own, sign in ((positive, 1), (~positive, -1)):
        others = len(values) - own.sum()
        above = (ranks[own] - rankdata(values[own])) / others  # share of the other class that is below
        components = above if sign > 0 else 1 - above
        influences[own] = (components - components.mean()) / own.sum()
    return influences


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
