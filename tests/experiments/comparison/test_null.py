"""Two equal conditions: what a comparison finds where there is nothing."""

import numpy as np
import pytest

from experiments.comparison.differences import paired_difference

NUM_COMPARISONS = 2000
SEEDS = 5


def share_found(draw) -> float:
    """The share of simulated comparisons of two equal conditions that find a difference at 95 %."""
    generator, found = np.random.default_rng(1), 0
    for _ in range(NUM_COMPARISONS):
        labels, first, second, metric = draw(generator)
        difference = paired_difference(("a", first), ("b", second), labels, metric)
        found += difference.verdict != "not shown to differ"
    return found / NUM_COMPARISONS


def noisy_runs(generator):
    """Each run of both conditions is right on an image with that image's probability."""
    ease = generator.beta(4, 1, 300)
    runs = [(generator.random(300) < ease).astype(int) for _ in range(2 * SEEDS)]
    return np.ones(300, int), runs[:SEEDS], runs[SEEDS:], "accuracy"


def agreeing_runs(generator):
    """Each condition has its own answers, on which nearly all of its runs agree."""
    ease = generator.beta(4, 1, 300)
    both = [generator.random(300) < ease for _ in range(2)]
    runs = [[np.where(generator.random(300) < 0.02, ~own, own).astype(int) for _ in range(SEEDS)] for own in both]
    return np.ones(300, int), *runs, "accuracy"


def ranking_runs(generator):
    """Of two classes, with scores of each condition that have a part in common and one of each run."""
    labels = (generator.random(300) < 0.3).astype(int)
    runs = []
    for _ in range(2):
        own = labels + generator.standard_normal(300)
        values = [1 / (1 + np.exp(-own - 0.5 * generator.standard_normal(300))) for _ in range(SEEDS)]
        runs.append([np.stack([1 - value, value], 1) for value in values])
    return labels, *runs, "auc"


@pytest.mark.slow
@pytest.mark.parametrize("draw", [noisy_runs, agreeing_runs, ranking_runs])
def test_two_equal_conditions_differ_in_3_to_7_percent_of_comparisons(draw):
    assert 0.03 <= share_found(draw) <= 0.07
