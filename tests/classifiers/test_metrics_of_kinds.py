"""Metrics of each kind of label, compared with torchmetrics and with values computed by hand."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from torchmetrics.functional import r2_score
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_calibration_error,
    multilabel_auroc,
    multilabel_average_precision,
    multilabel_exact_match,
    multilabel_f1_score,
)

from classifiers.evaluation.calibration import Calibration, calibration_of
from classifiers.evaluation.kinds import metrics_type
from classifiers.evaluation.metrics import Metrics, compute_metrics
from classifiers.evaluation.multilabel import MultilabelMetrics, metrics_of_labels
from classifiers.evaluation.predictions import Predictions
from classifiers.evaluation.regression import RegressionMetrics, metrics_of_targets
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.schema import from_json


def drawn_classes(num_classes=8, count=500, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, num_classes)).astype(np.float32)
    labels = rng.integers(0, num_classes, count)
    logits[np.arange(count), labels] += 1
    return Predictions(logits, labels).probabilities, labels


def test_classes_agree_with_torchmetrics():
    probabilities, labels = drawn_classes()
    metrics = compute_metrics(probabilities, labels)
    given, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    assert metrics.top5 == pytest.approx(float(multiclass_accuracy(given, truth, 8, average="micro", top_k=5)))
    assert metrics.auc == pytest.approx(float(multiclass_auroc(given, truth, 8)), abs=1e-6)
    assert metrics.ece == pytest.approx(float(multiclass_calibration_error(given, truth, 8, n_bins=15)), abs=1e-6)
    expected = torch.nn.functional.nll_loss(given.log(), truth)
    assert metrics.log_loss == pytest.approx(float(expected), abs=1e-6)
    assert sum(metrics.calibration.samples) == 500
    assert 0 < metrics.accuracy < metrics.top5 < 1


def test_the_figures_of_unknown_labels_are_left_out():
    probabilities, labels = drawn_classes()
    some = labels.copy()
    some[::3] = -1
    assert compute_metrics(probabilities, some) == compute_metrics(probabilities[some >= 0], labels[some >= 0])


def test_top5_needs_more_than_five_classes_and_classes_that_do_not_occur_have_no_curve():
    probabilities, labels = drawn_classes(5)
    assert compute_metrics(probabilities, labels).top5 is None
    assert "top-5 accuracy" not in compute_metrics(probabilities, labels).figures()
    few = labels % 3  # classes 3 and 4 do not occur
    expected = np.mean(
        [compute_metrics(np.stack([1 - p, p], 1), (few == n) * 1).auc for n, p in enumerate(probabilities.T[:3])]
    )
    assert compute_metrics(probabilities, few).auc == pytest.approx(expected)


def test_a_certain_error_has_a_finite_loss():
    metrics = compute_metrics(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1]))
    assert metrics.log_loss == pytest.approx(-np.log(np.finfo(np.float32).tiny) / 2)
    assert metrics.ece == pytest.approx(0.5)


def test_calibration_by_hand():
    bins = calibration_of(np.array([0.5, 0.52, 1.0, 0.0]), np.array([True, False, True, False]))
    assert bins.samples == [1, *[0] * 6, 2, *[0] * 6, 1]
    assert bins.confidence[7] == pytest.approx(0.51)
    assert bins.accuracy[7] == 0.5
    assert bins.error == pytest.approx((2 * 0.01 + 0 + 0) / 4)
    for wrong in ([1] * 14, [-1] * 15):
        with pytest.raises(CallError, match=r"calibration, samples: expected 15 numbers from 0"):
            Calibration(wrong, [0.5] * 15, [0.5] * 15)


def test_several_classes_agree_with_torchmetrics():
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 6)) < [0.5, 0.3, 0.1, 0.05, 0.6, 0.2]).astype(np.uint8)
    logits = (rng.normal(0, 2, (300, 6)) + 2 * labels).astype(np.float32)
    probabilities = Predictions(logits, labels, "multilabel").probabilities
    metrics = metrics_of_labels(probabilities, labels)
    given, truth = torch.from_numpy(probabilities), torch.from_numpy(labels).long()
    assert metrics.mean_average_precision == pytest.approx(
        float(multilabel_average_precision(given, truth, 6)), abs=1e-6
    )
    assert metrics.macro_f1 == pytest.approx(float(multilabel_f1_score(given, truth, 6)), abs=1e-6)
    assert metrics.micro_f1 == pytest.approx(float(multilabel_f1_score(given, truth, 6, average="micro")), abs=1e-6)
    assert metrics.exact_match == pytest.approx(float(multilabel_exact_match(given, truth, 6)), abs=1e-6)
    assert metrics.auc == pytest.approx(float(multilabel_auroc(given, truth, 6)), abs=1e-6)
    assert metrics.ece == pytest.approx(float(binary_calibration_error(given.ravel(), truth.ravel(), 15)), abs=1e-6)
    expected = torch.nn.functional.binary_cross_entropy(given, truth.double())
    assert metrics.log_loss == pytest.approx(float(expected), abs=1e-6)
    each = multilabel_average_precision(given, truth, 6, average=None).numpy()
    np.testing.assert_allclose(metrics.classes["average_precision"], each, atol=1e-6)
    assert from_json(MultilabelMetrics, json.loads(json.dumps(metrics.to_json())), "metrics") == metrics


def test_figures_of_several_classes_by_hand():
    labels = np.array([[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]], np.uint8)
    probabilities = np.array([[0.9, 0.6, 0.1, 0.8], [0.4, 0.7, 0.2, 0.9], [0.3, 0.1, 0.3, 0.7]])
    metrics = metrics_of_labels(probabilities, labels)
    # Class 2 occurs nowhere: it counts neither for mAP nor for the mean of F1; class 3 has no samples without it.
    assert metrics.classes["average_precision"] == [1.0, 1.0, None, 1.0]
    assert metrics.classes["auc"] == [1.0, 1.0, None, None]
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics.exact_match == pytest.approx(1 / 3)
    rows = list(csv.DictReader(io.StringIO(metrics.to_csv(["a", "b", "<c>", "d"]))))
    assert [row["name"] for row in rows] == ["a", "b", "<c>", "d"]
    assert (rows[0]["samples"], rows[0]["predicted"], rows[0]["correct"]) == ("2", "1", "1")
    assert (rows[1]["precision"], rows[1]["recall"]) == ("0.5", "1")
    assert (rows[2]["recall"], rows[2]["average_precision"]) == ("", "")


def test_no_class_at_all_has_no_mean_precision():
    metrics = metrics_of_labels(np.array([[0.2], [0.3]]), np.zeros((2, 1), np.uint8))
    assert metrics.mean_average_precision is None
    assert metrics.auc is None
    assert metrics.macro_f1 == 0
    assert metrics.exact_match == 1
    assert "mAP" not in metrics.figures()


def test_regression_agrees_with_torchmetrics():
    rng = np.random.default_rng(0)
    targets = rng.normal(5, [1, 10, 100], (200, 3)).astype(np.float32)
    predicted = (targets + rng.normal(0, [0.5, 5, 300], (200, 3))).astype(np.float32)
    metrics = metrics_of_targets(predicted, targets)
    given, truth = torch.from_numpy(predicted).double(), torch.from_numpy(targets).double()
    np.testing.assert_allclose(metrics.targets["r2"], r2_score(given, truth, multioutput="raw_values"), atol=1e-6)
    assert metrics.r2 == pytest.approx(float(r2_score(given, truth)), abs=1e-6)
    assert metrics.mae == pytest.approx(float((given - truth).abs().mean()))
    assert metrics.rmse == pytest.approx(float(((given - truth) ** 2).mean(0).sqrt().mean()))
    assert metrics.figures().keys() == {"MAE", "RMSE", "R²"}
    assert from_json(RegressionMetrics, json.loads(json.dumps(metrics.to_json())), "metrics") == metrics


def test_unknown_targets_are_left_out_one_by_one():
    nan = np.nan
    targets = np.array([[1, nan], [2, 5], [nan, nan], [4, nan]], np.float32)
    predicted = np.array([[1, 9], [3, 4], [9, 9], [4, 9]], np.float32)
    metrics = metrics_of_targets(predicted, targets)
    assert metrics.num_samples == 3
    assert metrics.targets["samples"] == [3, 1]
    assert metrics.targets["mae"] == pytest.approx([1 / 3, 1])
    assert metrics.targets["r2"][1] is None  # of a single sample
    assert metrics.mae == pytest.approx(2 / 3)
    assert metrics.to_csv(["x", "y"]).splitlines()[2] == "1,y,1,1,1,"
    with pytest.raises(CallError, match="no sample has a target, so there is nothing to evaluate; choose a labeled"):
        metrics_of_targets(predicted[:1], targets[2:3])


def test_the_type_of_metrics_follows_from_the_kind_of_label():
    assert metrics_type("class", "config.json") is Metrics
    for wrong in (None, ["class"], "none"):
        with pytest.raises(
            DamagedError, match=r"config.json, label_kind: found .* one of class, multilabel, regression"
        ):
            metrics_type(wrong, "config.json")


def test_regression_has_no_probabilities():
    with pytest.raises(CallError, match="regression has no probabilities"):
        _ = Predictions(np.zeros((2, 1), np.float32), np.zeros(2, np.float32), "regression").probabilities
