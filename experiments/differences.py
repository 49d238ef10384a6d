"""How far a difference between two conditions can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, roc_auc_score

DRAWS = 1_000
"""Bootstrap draws of the test samples."""


@dataclass(frozen=True)
class Difference:
    """Metric of one condition minus that of its baseline, paired by seed and by test sample."""

    condition: str
    baseline: str
    mean: float
    low: float
    high: float
    """Ends of the 95 % interval."""
    per_seed: list[float]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not shown to differ`."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not shown to differ"


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of samples whose most probable class is the label."""
    return float(accuracy_score(labels, probabilities.argmax(1)))


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve of class 1's probability."""
    return float(roc_auc_score(labels, probabilities[:, 1]))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"accuracy": accuracy, "auc": auc}


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
    error by bootstrap over the test samples, which are the same in every seed.
    """
    score = METRICS[metric]
    pairs = list(zip(condition[1], baseline[1], strict=True))
    per_seed = [score(labels, ours) - score(labels, theirs) for ours, theirs in pairs]
    mean, num_seeds = float(np.mean(per_seed)), len(per_seed)
    over_seeds = 0.0
    if num_seeds > 1:
        over_seeds = float(t.ppf(0.975, num_seeds - 1) * np.std(per_seed, ddof=1) / np.sqrt(num_seeds))
    over_samples = float(norm.ppf(0.975)) * _bootstrap_error(score, pairs, labels, seed)
    half = float(np.hypot(over_seeds, over_samples))
    return Difference(condition[0], baseline[0], mean, mean - half, mean + half, per_seed)


def _bootstrap_error(
    score: Callable[[np.ndarray, np.ndarray], float],
    pairs: list[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    seed: int,
) -> float:
    """Standard error of the seeds' mean difference, drawing test samples with replacement."""
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(DRAWS):
        rows = generator.integers(0, len(labels), len(labels))
        drawn = labels[rows]
        if score is auc and drawn.min() == drawn.max():
            continue
        draws.append(np.mean([score(drawn, ours[rows]) - score(drawn, theirs[rows]) for ours, theirs in pairs]))
    return float(np.std(draws))
