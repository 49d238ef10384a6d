import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, roc_auc_score

from experiments.comparison.differences import (
    METRICS,
    NUM_DRAWS,
    Difference,
    paired_difference,
    paired_sample_difference,
    signed,
)


def probabilities(*of_class_1: float) -> np.ndarray:
    ones = np.array(of_class_1)
    return np.stack([1 - ones, ones], 1)


def noisy(seed: int, labels: np.ndarray, strength: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return probabilities(*(1 / (1 + np.exp(-strength * (labels - 0.5) - rng.normal(size=len(labels))))))


LABELS = np.random.default_rng(7).integers(0, 2, 200)


def test_accuracy_by_hand():
    labels = np.array([0, 0, 1, 1])
    ours, theirs = probabilities(0.1, 0.2, 0.9, 0.4), probabilities(0.1, 0.8, 0.9, 0.4)  # 3 and 2 of 4 are correct
    difference = paired_difference(("a", [ours] * 2), ("b", [theirs] * 2), labels, "accuracy")
    assert (difference.condition, difference.baseline) == ("a", "b")
    assert difference.mean == pytest.approx(0.25)
    assert difference.per_seed == [pytest.approx(0.25)] * 2
    # One sample of four differs: the mean of four draws with probability 1/4 has the standard error √(3/16 / 4).
    half = norm.ppf(0.975) * np.sqrt(3 / 16 / 4)
    assert (difference.high - difference.low) / 2 == pytest.approx(half, rel=0.1)
    assert difference.verdict == "not shown to differ"


def test_auc_by_hand():
    labels = np.array([0, 0, 1, 1])
    ours, theirs = probabilities(0.1, 0.4, 0.35, 0.8), probabilities(0.1, 0.4, 0.4, 0.8)  # 3 and 3½ of 4 pairs
    difference = paired_difference(("a", [ours]), ("b", [theirs]), labels, "auc")
    assert difference.mean == pytest.approx(0.75 - 0.875)


@pytest.mark.parametrize("name", ["accuracy", "auc"])
def test_metrics_equal_those_of_scikit_learn_on_every_draw(name):
    rng = np.random.default_rng(0)
    predicted = probabilities(*np.round(rng.random(len(LABELS)), 1))  # with many ties
    rows = rng.integers(0, len(LABELS), (20, len(LABELS)))
    weights = np.stack([np.bincount(drawn, minlength=len(LABELS)) for drawn in rows])
    if name == "auc":
        expected = [roc_auc_score(LABELS[drawn], predicted[drawn, 1]) for drawn in rows]
    else:
        expected = [accuracy_score(LABELS[drawn], predicted[drawn].argmax(1)) for drawn in rows]
    np.testing.assert_allclose(METRICS[name](LABELS, predicted, weights), expected, rtol=1e-12)


def test_auc_of_one_class_is_undefined():
    assert np.isnan(METRICS["auc"](np.array([0, 1]), probabilities(0.2, 0.7), np.array([[2, 0]]))).all()


def test_identical_predictions_do_not_differ():
    same = [noisy(seed, LABELS, 1.0) for seed in range(3)]
    difference = paired_difference(("a", same), ("b", same), LABELS, "auc")
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert difference.verdict == "not shown to differ"


def test_the_interval_follows_its_formula():
    ours, theirs = [noisy(s, LABELS, 2.0) for s in range(3)], [noisy(s + 10, LABELS, 1.0) for s in range(3)]
    difference = paired_difference(("a", ours), ("b", theirs), LABELS, "accuracy")
    right = np.array([[(p.argmax(1) == LABELS) for p in side] for side in (ours, theirs)]).astype(float)
    gaps = right[0] - right[1]  # (seeds, samples)
    over_seeds = t.ppf(0.975, 2) * gaps.mean(1).std(ddof=1) / np.sqrt(3)
    shared = gaps.var(0, ddof=1).mean() - gaps.mean(1).var(ddof=1)  # about that of both, with that of seeds taken off
    over_samples = norm.ppf(0.975) * np.sqrt(max(gaps.mean(0).var() - shared / 3, 0) / len(LABELS))
    assert difference.mean == pytest.approx(gaps.mean())
    assert difference.high - difference.mean == pytest.approx(np.hypot(over_seeds, over_samples), rel=0.05)
    assert difference.high - difference.mean == pytest.approx(difference.mean - difference.low)


def test_more_seeds_narrow_the_interval():
    def width(num_seeds: int) -> float:
        ours, theirs = ([noisy(s + side, LABELS, 1.0) for s in range(num_seeds)] for side in (0, 100))
        difference = paired_difference(("a", ours), ("b", theirs), LABELS, "accuracy")
        return difference.high - difference.low

    assert width(12) < width(6) < width(2)


def test_the_interval_follows_from_the_seed():
    sides = ("a", [noisy(s, LABELS, 2.0) for s in (0, 1)]), ("b", [noisy(s, LABELS, 1.0) for s in (2, 3)])
    assert paired_difference(*sides, LABELS, "auc") == paired_difference(*sides, LABELS, "auc")
    assert paired_difference(*sides, LABELS, "auc") != paired_difference(*sides, LABELS, "auc", seed=1)
    assert NUM_DRAWS >= 1_000


def test_one_seed_gives_a_difference_without_an_interval():
    difference = paired_difference(("a", [noisy(0, LABELS, 2.0)]), ("b", [noisy(1, LABELS, 1.0)]), LABELS, "auc")
    assert difference.per_seed == [difference.mean]
    assert (difference.low, difference.high) == (None, None)
    assert difference.verdict == "not judged"


def test_seeds_must_pair_up():
    with pytest.raises(ValueError, match="zip"):
        paired_difference(("a", [noisy(0, LABELS, 1)]), ("b", []), LABELS, "auc")


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.1, 0.2, "better"), (-0.2, -0.1, "worse")])
def test_verdicts(low, high, verdict):
    assert Difference("a", "b", (low + high) / 2, low, high, []).verdict == verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (-0.0, "0.000"), (0.00049, "0.000"), (-0.0004, "0.000"), (0.0006, "+0.001"), (-0.0006, "-0.001")],
)
def test_a_difference_has_a_sign_only_if_its_digits_show_one(value, text):
    assert signed(value) == text


def test_simultaneous_intervals_are_wider():
    rng = np.random.default_rng(0)
    runs = [[(rng.random(300) < share).astype(int) for _ in range(3)] for share in (0.8, 0.7)]
    labels = np.ones(300, int)
    alone, one_of_ten = (
        paired_difference(("a", runs[0]), ("b", runs[1]), labels, "accuracy", num_comparisons=number)
        for number in (1, 10)
    )
    assert (alone.simultaneous_low, alone.simultaneous_high) == (alone.low, alone.high)
    assert (one_of_ten.low, one_of_ten.high) == (alone.low, alone.high)
    assert one_of_ten.simultaneous_low < alone.low < alone.high < one_of_ten.simultaneous_high


def test_what_varies_with_seed_and_sample_is_counted_once():
    """Runs that are right at random have the spread over seeds alone, which has all of it."""
    rng = np.random.default_rng(0)
    runs = [[(rng.random(400) < 0.8).astype(int) for _ in range(40)] for _ in range(2)]
    labels = np.ones(400, int)
    found = paired_difference(("a", runs[0]), ("b", runs[1]), labels, "accuracy")
    half = (found.high - found.low) / 2
    assert half == pytest.approx(1.96 * np.sqrt(2 * 0.8 * 0.2 / 400 / 40), rel=0.25)


def test_answers_without_a_seed_have_an_interval_over_samples():
    rng = np.random.default_rng(0)
    values = [np.stack([1 - one, one], 1) for one in (rng.random(300), rng.random(300))]
    labels = (np.arange(300) % 2).astype(int)
    found = paired_difference(("a", values[:1]), ("b", values[1:]), labels, "auc", over_seeds=False)
    assert found.low < found.mean < found.high
    assert paired_difference(("a", values[:1]), ("b", values[1:]), labels, "auc").low is None


def test_interval_of_a_paired_difference_of_samples():
    rng = np.random.default_rng(0)
    right, other = rng.random(400) < 0.8, rng.random(400) < 0.7
    difference = paired_sample_difference(("a", right), ("b", other))
    values = right.astype(float) - other
    assert difference.mean == pytest.approx(values.mean())
    half = norm.ppf(0.975) * values.std() / np.sqrt(400)
    assert difference.low == pytest.approx(values.mean() - half, abs=0.008)
    assert difference.high == pytest.approx(values.mean() + half, abs=0.008)
    assert (difference.condition, difference.baseline) == ("a", "b")
    same = paired_sample_difference(("a", right), ("b", right))
    assert (same.mean, same.low, same.high, same.verdict) == (0, 0, 0, "not shown to differ")
