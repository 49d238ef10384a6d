"""Metrics are compared with values computed by hand."""

import numpy as np
import pytest

from classifiers.evaluation import Predictions
from classifiers.metrics import Metrics, compute_metrics
from walloc_cdl.errors import CallError

# Class 1's probability:    0.1  0.6  0.4  0.9  0.7
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]])
LABELS = np.array([0, 0, 1, 1, 1])


def test_two_classes():
    metrics = compute_metrics(PROBABILITIES, LABELS)
    assert metrics.accuracy == pytest.approx(3 / 5)
    # Class 0: precision 1/2, recall 1/2, F1 1/2. Class 1: precision 2/3, recall 2/3, F1 2/3.
    assert metrics.macro_f1 == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Of the 6 pairs of one sample of each class, only (0.6, 0.4) is in the wrong order.
    assert metrics.auc == pytest.approx(5 / 6)
    assert metrics.confusion == [[1, 1], [1, 2]]
    assert metrics.num_samples == 5
    assert Metrics(**metrics.to_json()) == metrics


def test_unknown_labels_are_left_out():
    labels = np.array([0, -1, 1, 1, -1])
    metrics = compute_metrics(PROBABILITIES, labels)
    assert metrics.num_samples == 3
    assert metrics.accuracy == pytest.approx(2 / 3)
    assert metrics.confusion == [[1, 0], [1, 1]]


def test_auc_is_none_for_three_classes_and_for_labels_of_one_class():
    three = compute_metrics(np.eye(3)[[0, 1, 1]], np.array([0, 1, 2]))
    assert three.auc is None
    assert three.confusion == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert three.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert compute_metrics(PROBABILITIES, np.ones(5, np.int64)).auc is None


def test_nothing_to_evaluate():
    with pytest.raises(CallError, match="no sample has a label, so there is nothing to evaluate; choose a labeled"):
        compute_metrics(PROBABILITIES, np.full(5, -1))
    with pytest.raises(CallError, match="label 2, but the model has 2 classes, numbered from 0"):
        compute_metrics(PROBABILITIES, np.array([0, 1, 2, 0, 0]))


def test_probabilities_of_large_logits():
    predictions = Predictions(np.float32([[1000, 1001], [0, 0]]), np.array([0, 1]))
    expected = 1 / (1 + np.e)
    np.testing.assert_allclose(predictions.probabilities, [[expected, 1 - expected], [0.5, 0.5]])
