"""Metrics are compared with values computed by hand."""

import csv
import io
import json
import time

import numpy as np
import pytest

from classifiers.cli.learning import metric_rows
from classifiers.evaluation.metrics import Metrics, class_table, compute_metrics, confused_classes, metrics_of_classes
from classifiers.evaluation.predictions import Predictions
from tests.support.memory import PeakMemory
from walloc_cdl.errors import CallError
from walloc_cdl.schema import from_json

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
    assert metrics.confusion == {"true": [0, 0, 1, 1], "predicted": [0, 1, 0, 1], "count": [1, 1, 1, 2]}
    assert metrics.num_samples == 5
    assert from_json(Metrics, json.loads(json.dumps(metrics.to_json())), "metrics") == metrics


def test_unknown_labels_are_left_out():
    labels = np.array([0, -1, 1, 1, -1])
    metrics = compute_metrics(PROBABILITIES, labels)
    assert metrics.num_samples == 3
    assert metrics.accuracy == pytest.approx(2 / 3)
    assert metrics.confusion == {"true": [0, 1, 1], "predicted": [0, 0, 1], "count": [1, 1, 1]}


def test_auc_of_three_classes_is_their_mean_and_of_labels_of_one_class_none():
    three = compute_metrics(np.eye(3)[[0, 1, 1]], np.array([0, 1, 2]))
    assert three.auc == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert three.confusion == {"true": [0, 1, 2], "predicted": [0, 1, 1], "count": [1, 1, 1]}
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


def test_figures_of_each_class():
    metrics = metrics_of_classes(np.array([0, 1, 1, 1, 0]), np.array([0, 0, 1, 1, 3]), 5)
    table = class_table(metrics)
    assert table.samples.tolist() == [2, 2, 0, 1, 0]
    assert table.worst(10) == [3, 0, 1]  # classes without samples are not rated
    assert confused_classes(metrics, 0) == [(0, 1), (1, 1)]
    rows = list(csv.DictReader(io.StringIO(table.to_csv(["a", "b,c", 'd"', "e\nf", "g"]))))
    assert [row["name"] for row in rows] == ["a", "b,c", 'd"', "e\nf", "g"]
    first, last = rows[0], rows[4]
    assert (first["recall"], first["precision"], first["f1"]) == ("0.5", "0.5", "0.5")
    assert (last["recall"], last["precision"], last["f1"]) == ("", "", "")


def test_all_classes_are_printed_if_they_are_few_and_the_worst_twenty_of_many():
    few = metric_rows(metrics_of_classes(np.arange(12), np.arange(12), 12), "test", None, None)
    assert sum(name.startswith("true ") for name in few) == 12
    labels = np.repeat(np.arange(100), 50)
    predicted = labels.copy()
    predicted[labels == 7] = np.arange(50) + 10
    predicted[:40] = 99
    many = metric_rows(metrics_of_classes(predicted, labels, 100), "test", [f"c{n}" for n in range(100)], None)
    lines = [name for name in many if name.startswith("true ")]
    assert lines[:2] == ["true c7, predicted as", "true c0, predicted as"]
    assert len(lines) == 20
    assert many["true c0, predicted as"] == "c99 40, c0 10"
    assert many["true c7, predicted as"].endswith(", c29 1, and 30 more")
    assert many["classes"] == "the 20 of lowest recall of 100; --classes PATH writes all"


def test_many_classes_and_a_million_samples_take_little_time_and_space():
    """A dense matrix of 21,000 classes would take 3.5 GB, and its text 1.3 GB.

    Measured: 1.4 s of CPU time, and a peak of 67 MB more than before.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 21_000, 1_000_000)
    near = np.minimum(labels + generator.integers(0, 3, len(labels)), 20_999)
    start = time.process_time()
    with PeakMemory() as memory:
        metrics = metrics_of_classes(near, labels, 21_000)
        text = json.dumps(metrics.to_json())
        rows = metric_rows(metrics, "test", None, None)
        table = class_table(metrics).to_csv(None)
    assert time.process_time() - start < 30  # seconds
    assert memory.num_bytes < 250e6
    assert len(text) < 2_000_000
    assert len(rows) < 30
    assert table.count("\n") == 21_001
    assert metrics.accuracy == pytest.approx(1 / 3, abs=0.01)
    assert sum(metrics.confusion["count"]) == 1_000_000


@pytest.mark.parametrize(
    "confusion",
    [
        [[1, 0], [0, 1]],
        {"true": [0], "predicted": [0]},
        {"true": [0], "predicted": [0], "count": 1},
        {"true": [0, 1], "predicted": [0], "count": [1]},
        {"true": [9], "predicted": [0], "count": [1]},
        {"true": [0], "predicted": ["0"], "count": [1]},
        {"true": [0], "predicted": [0], "count": [-1]},
    ],
)
def test_a_confusion_matrix_of_a_foreign_file_is_checked(confusion):
    with pytest.raises(CallError, match="confusion"):
        Metrics(1, 2, 1.0, 1.0, None, confusion)
    with pytest.raises(CallError, match="num_classes is 100000000000"):
        Metrics(1, 10**11, 1.0, 1.0, None, {"true": [], "predicted": [], "count": []})
