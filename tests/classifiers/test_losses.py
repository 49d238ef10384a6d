"""Losses are those of torch and timm, without the samples of unknown label."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss, smooth_l1_loss

from classifiers import TrainConfig
from classifiers.models.scale import TargetScale
from classifiers.runs.losses import BinaryLoss, CrossEntropy, RegressionLoss, balanced_weights
from walloc_cdl.augment.mixing import neighbors
from walloc_cdl.errors import CallError

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.1])
SHARES = torch.tensor([0.3, 0.3, 1.0, 1.0, 0.8, 0.8])


def drawn(count=6, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, classes, generator=generator), torch.randint(0, classes, (count,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_torch_and_timm(smoothing):
    outputs, targets = drawn()
    torch.testing.assert_close(
        CrossEntropy(smoothing)(outputs, targets), LabelSmoothingCrossEntropy(smoothing)(outputs, targets)
    )
    expected = cross_entropy(outputs, targets, weight=WEIGHTS, label_smoothing=smoothing)
    torch.testing.assert_close(CrossEntropy(smoothing, WEIGHTS)(outputs, targets), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_that_of_soft_targets(smoothing):
    outputs, targets = drawn()
    one, two = (mixup_target(each, 5, 1.0, smoothing) for each in (targets, neighbors(targets)))
    soft = SHARES[:, None] * one + (1 - SHARES[:, None]) * two
    torch.testing.assert_close(
        CrossEntropy(smoothing)(outputs, targets, SHARES), SoftTargetCrossEntropy()(outputs, soft)
    )
    expected = BinaryCrossEntropy(smoothing, target_threshold=0.2)(outputs, soft)
    found = BinaryLoss(5, smoothing, target_threshold=0.2)(outputs, targets, SHARES)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("settings", [{}, {"sum_classes": True}, {"target_threshold": 0.2}, {"weights": WEIGHTS}])
def test_binary_cross_entropy_is_that_of_timm(settings):
    outputs, targets = drawn()
    named = {"weight" if name == "weights" else name: value for name, value in settings.items()}
    expected = BinaryCrossEntropy(0.1, **named)(outputs, targets)
    torch.testing.assert_close(BinaryLoss(5, 0.1, **settings)(outputs, targets), expected)


def test_several_classes_are_smoothed_and_weighted_as_timm_does():
    outputs, _ = drawn()
    targets = (torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)
    expected = BinaryCrossEntropy(0.1, smooth_dense=True, pos_weight=WEIGHTS)(outputs, targets.float())
    loss = BinaryLoss(5, 0.1, is_multilabel=True, weights=WEIGHTS)
    torch.testing.assert_close(loss(outputs, targets), expected)
    mixed = SHARES[:, None] * targets + (1 - SHARES[:, None]) * neighbors(targets)
    expected = binary_cross_entropy_with_logits(outputs, mixed)
    torch.testing.assert_close(BinaryLoss(5, is_multilabel=True)(outputs, targets, SHARES), expected)


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), CrossEntropy(0.1, WEIGHTS), BinaryLoss(5, 0.1)])
def test_unknown_classes_do_not_count(loss):
    outputs, targets = drawn(8)
    unknown = torch.tensor([True, True, False, False, False, False, True, True])
    some = torch.where(unknown, -1, targets)
    torch.testing.assert_close(loss(outputs, some), loss(outputs[~unknown], targets[~unknown]))
    shares = torch.tensor([0.5, 0.5, 0.3, 0.3, 1, 1, 0.7, 0.7])
    mixed = loss(outputs, some, shares)
    torch.testing.assert_close(mixed, loss(outputs[~unknown], targets[~unknown], shares[~unknown]))
    none = loss(outputs.requires_grad_(), torch.full((8,), -1), shares)
    none.backward()
    assert none == 0
    assert outputs.grad.abs().max() == 0


def test_half_a_pair_of_unknown_class_counts_as_the_share_of_the_other():
    outputs, _ = drawn(2)
    targets, shares = torch.tensor([3, -1]), torch.tensor([0.6, 0.6])
    log = outputs.log_softmax(1)[:, 3]
    torch.testing.assert_close(CrossEntropy()(outputs, targets, shares), -(0.6 * log[0] + 0.4 * log[1]))
    each = binary_cross_entropy_with_logits(outputs, torch.eye(5)[[3, 3]], reduction="none").mean(1)
    torch.testing.assert_close(BinaryLoss(5)(outputs, targets, shares), 0.6 * each[0] + 0.4 * each[1])


@pytest.mark.parametrize(("name", "expected"), [("mse", mse_loss), ("huber", smooth_l1_loss)])
def test_regression_is_in_units_of_the_deviation(name, expected):
    scale = TargetScale(torch.tensor([5000.0, 0.0]), torch.tensor([1000.0, 0.01]))
    normal = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    targets = scale(torch.zeros(6, 2))
    loss = RegressionLoss(name, scale)
    torch.testing.assert_close(loss(scale(normal), targets), expected(normal, torch.zeros(6, 2)), rtol=1e-3, atol=1e-4)
    targets[0, 1] = targets[4] = torch.nan
    known = ~targets.isnan()
    found = loss(scale(normal), targets)
    torch.testing.assert_close(found, expected(normal[known], torch.zeros(9)), rtol=1e-3, atol=1e-4)
    half, outputs, shares = RegressionLoss(name, TargetScale.ones(1)), torch.ones(2, 1), torch.tensor([0.7, 0.7])
    mixed = half(outputs, torch.tensor([2.0, 4.0]), shares)
    torch.testing.assert_close(mixed, expected(torch.ones(2), torch.tensor([2.6, 3.4])))
    # Of a mixture with an unknown target the known one is left.
    mixed = half(outputs, torch.tensor([2.0, torch.nan]), shares)
    torch.testing.assert_close(mixed, expected(torch.ones(2), torch.tensor([2.0, 2.0])))


def test_unknown_targets_have_no_gradient():
    outputs = torch.ones(2, 1, requires_grad=True)
    RegressionLoss("mse", TargetScale.ones(1))(outputs, torch.tensor([torch.nan, 3.0])).backward()
    assert outputs.grad.tolist() == [[0.0], [-4.0]]


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.array([0, 0, 0, 2, 2, 3, -1, -1])
    expected = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=labels[labels >= 0])
    weights = balanced_weights(labels, 5)
    np.testing.assert_allclose(weights[[0, 2, 3]], expected)
    assert weights[[1, 4]].tolist() == [1, 1]
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1)
    several = balanced_weights(np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], np.uint8), 3)
    assert several.tolist() == [3, 1, 1]  # negatives / positives; 1 for a class that none has, or all


LOSSES = [
    CrossEntropy(0.1, WEIGHTS),
    CrossEntropy(),
    BinaryLoss(5, 0.1),
    BinaryLoss(5, sum_classes=True, weights=WEIGHTS),
    BinaryLoss(5, 0.1, is_multilabel=True, weights=WEIGHTS),
    RegressionLoss("mse", TargetScale.ones(5)),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("is_mixed", [False, True])
def test_the_mean_over_two_parts_is_the_loss_of_the_whole(loss, is_mixed):
    """So that processes, and batches that are accumulated, have the gradient of one large batch."""
    outputs, targets = drawn(10)
    targets[[1, 2, 3, 8]] = -1
    if isinstance(loss, RegressionLoss):
        targets = torch.where(
            torch.rand(10, 5, generator=torch.Generator().manual_seed(1)) < 0.4, torch.nan, outputs + 1
        )
    elif isinstance(loss, BinaryLoss) and loss.is_multilabel:
        targets = (outputs > 0.5).to(torch.uint8)
    shares = torch.tensor([0.3, 0.3, 1, 1, 0.8, 0.8, 0.5, 0.5, 0.1, 0.1]) if is_mixed else None
    total = count = 0
    for part in (slice(0, 4), slice(4, 10)):
        terms, weight = loss.terms(outputs[part], targets[part], None if shares is None else shares[part])
        total, count = total + terms, count + weight
    torch.testing.assert_close(total / count, loss(outputs, targets, shares))


def test_nothing_known_has_no_loss_and_counts_nothing():
    outputs, targets = torch.ones(2, 3), torch.full((2,), -1)
    for loss in (CrossEntropy(), BinaryLoss(3)):
        assert loss(outputs, targets) == 0
        assert loss.terms(outputs, targets)[1] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "bse"}, r"bse.*choose one of cross_entropy, bce, mse, l1, huber"),
        ({"sampling": "balance"}, r"balance.*choose one of uniform, balanced"),
        ({"bce_target_thresh": 1.0}, r"bce_target_thresh is 1.0; it must be above 0 and below 1"),
        ({"class_weights": "inverse"}, r"class_weights is 'inverse'; it must be 'balanced', or a number for each"),
        ({"class_weights": (1.0, -1.0)}, r"class_weights are \(1.0, -1.0\); they must not be negative"),
        ({"mixup": -0.1}, r"mixup is -0.1; expected 0 \(off\) to 100"),
        ({"cutmix": float("nan")}, r"cutmix is nan; expected 0"),
        ({"mixup_prob": 1.5}, r"mixup_prob is 1.5; expected a probability"),
        ({"mixup_off_epoch": -1}, r"mixup_off_epoch is -1; it must be at least 0"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(CallError, match=message):
        TrainConfig(**changes)
