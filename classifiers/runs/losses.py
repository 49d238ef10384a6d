"""The losses of each kind of label, in which samples of unknown label do not count.

A loss is called with the outputs of the model, float32 (B, C), the targets as `LatentLoader` yields them, and, where
neighbors are mixed (`walloc_cdl.augment.mixing`), with each sample's own share of the mixture, float32 (B,). Where one
half of a mixture is of unknown label, the other counts as much as its share, so that the two of a pair count as much as
they would without mixing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss, mse_loss, one_hot, smooth_l1_loss

from classifiers.models.classifier import LatentClassifier
from classifiers.models.scale import TargetScale
from classifiers.runs.train_config import BALANCED, LOSSES, TrainConfig
from walloc_cdl.augment.mixing import neighbors
from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL


class Loss(ABC):
    """The mean of terms; a batch that several processes share has one mean over all of them."""

    def __call__(self, outputs: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Returns the mean, float32 (), over what is known, as `terms` says; 0 if nothing is."""
        total, count = self.terms(outputs, targets, shares)
        return total / torch.where(count > 0, count, 1)

    @abstractmethod
    def terms(self, outputs: Tensor, targets: Tensor, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the sum of the terms and how much they count together, both float32 ().

        Shares are None where nothing is mixed.
        """


REGRESSION_LOSSES = {"mse": mse_loss, "l1": l1_loss, "huber": smooth_l1_loss}


def build_loss(model: LatentClassifier, dataset: LatentDataset, config: TrainConfig) -> Loss:
    """Return the loss of a configuration for the labels that the model learns, with the class weights of `dataset`.

    Raises `CallError` for a loss, smoothing or weights that do not go with the kind of label.
    """
    kind, count = model.config.label_kind, model.config.num_classes
    name = config.loss or LOSSES[kind][0]
    if name not in LOSSES[kind]:
        raise CallError(
            f"loss {name} does not go with labels of kind {kind}, which {dataset.folder} has; choose one of "
            f"{', '.join(LOSSES[kind])}"
        )
    if kind == "regression":
        for setting in ("smoothing", "class_weights", "bce_target_thresh", "bce_sum"):
            if getattr(config, setting):
                raise CallError(f"{setting} is for classes, but {dataset.folder} has regression targets; omit it")
        if model.scale is None:
            raise CallError("a model of regression targets has no scale; build it with `create_model`")
        return RegressionLoss(name, model.scale)
    if name != "bce" and (config.bce_target_thresh is not None or config.bce_sum):
        raise CallError(f"bce_target_thresh and bce_sum are settings of the loss bce, not of {name}; omit them")
    weights = _class_weights(dataset, kind, count, config)
    if name == "cross_entropy":
        return CrossEntropy(config.smoothing, weights)
    return BinaryLoss(
        count,
        config.smoothing,
        is_multilabel=kind == "multilabel",
        target_threshold=config.bce_target_thresh,
        sum_classes=config.bce_sum,
        weights=weights,
    )


@dataclass(frozen=True, eq=False)
class CrossEntropy(Loss):
    """Softmax cross entropy of class numbers int64 (B,), with the smoothing and the weighted mean of torch's.

    It is linear in the target, so the loss of a mixture is the mixture of the losses of both labels.
    """

    smoothing: float = 0.0
    weights: Tensor | None = None
    """float32 (C,): what an error of each class counts; None for all the same."""

    def terms(self, outputs: Tensor, targets: Tensor, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the terms of the mean over the samples of known class, weighted by their classes."""
        weights = None if self.weights is None else self.weights.to(outputs.device)
        terms, counts = self._terms(outputs, targets, weights)
        if shares is not None:
            others, other_counts = self._terms(outputs, neighbors(targets), weights)
            terms = shares * terms + (1 - shares) * others
            counts = shares * counts + (1 - shares) * other_counts
        return terms.sum(), counts.sum()

    def _terms(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the weighted losses (B,) and the weights (B,) of the samples, 0 where the class is unknown."""
        terms = cross_entropy(
            outputs,
            targets,
            weight=weights,
            ignore_index=UNKNOWN_LABEL,
            label_smoothing=self.smoothing,
            reduction="none",
        )
        known = (targets != UNKNOWN_LABEL).to(terms.dtype)
        return terms, known if weights is None else known * weights[targets.clamp_min(0)]


class BinaryLoss(Loss):
    """Binary cross entropy of each class, by timm's `BinaryCrossEntropy`, as timm's recipes A1 to A3 use it.

    Targets are class numbers int64 (B,) or, with `is_multilabel`, uint8 (B, C). Smoothing s makes them
    1 - s + s / C and s / C for class numbers, and 1 - s / 2 and s / 2 for several classes. Targets, also mixed ones,
    above `target_threshold` become 1 and others 0. The mean is over samples and classes, or, with `sum_classes`, over
    samples. `weights` (C,) count the terms of each class; of several classes, only those of samples that have it.
    """

    def __init__(
        self,
        num_classes: int,
        smoothing: float = 0.0,
        *,
        is_multilabel: bool = False,
        target_threshold: float | None = None,
        sum_classes: bool = False,
        weights: Tensor | None = None,
    ) -> None:
        self.num_classes, self.smoothing, self.is_multilabel = num_classes, smoothing, is_multilabel
        self.sum_classes = sum_classes
        self._terms = BinaryCrossEntropy(
            smoothing=0.0,  # the targets are smoothed before they are mixed
            target_threshold=target_threshold,
            reduction="none",
            weight=None if is_multilabel else weights,
            pos_weight=weights if is_multilabel else None,
        )

    def terms(self, outputs: Tensor, targets: Tensor, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the terms of the mean over the samples of known class, as the class says."""
        dense, counts = self._dense(targets), self._known(targets)
        if shares is not None:
            dense, counts = _mixed(dense, counts[:, None], shares[:, None])
            counts = counts[:, 0]
        terms = counts * self._terms.to(outputs.device)(outputs, dense).sum(1)
        return terms.sum(), counts.sum() * (1 if self.sum_classes else self.num_classes)

    def _known(self, targets: Tensor) -> Tensor:
        """Return 1 for samples of known classes, and 0 for others, float32 (B,)."""
        return torch.ones(len(targets), device=targets.device) if self.is_multilabel else (targets >= 0).float()

    def _dense(self, targets: Tensor) -> Tensor:
        """Return smoothed targets, float32 (B, C)."""
        if self.is_multilabel:
            return targets.float() * (1 - self.smoothing) + self.smoothing / 2
        dense = one_hot(targets.clamp_min(0), self.num_classes).float()
        return dense * (1 - self.smoothing) + self.smoothing / self.num_classes


@dataclass(frozen=True, eq=False)
class RegressionLoss(Loss):
    """Loss of targets float32 (B,) or (B, T), NaN where unknown, in units of their deviation on the training split."""

    name: str
    """`mse`, `l1`, or `huber`, which is quadratic up to an error of one deviation."""
    scale: TargetScale

    def terms(self, outputs: Tensor, targets: Tensor, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the terms of the mean over the known targets of all samples."""
        wanted = self.scale.standardized(targets.reshape(outputs.shape).float())
        counts = (~wanted.isnan()).float()
        wanted = torch.where(counts > 0, wanted, 0)
        if shares is not None:
            wanted, counts = _mixed(wanted, counts, shares[:, None])
        terms = REGRESSION_LOSSES[self.name](self.scale.standardized(outputs), wanted, reduction="none")
        return (counts * terms).sum(), counts.sum()


def _mixed(targets: Tensor, counts: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return the targets (B, C) of mixtures of neighbors, and how much each counts, (B, 1) or (B, C).

    `counts`, 0 where a target is unknown and 1 otherwise, and `shares` (B, 1) are those of the samples themselves.
    """
    own, other = shares * counts, (1 - shares) * neighbors(counts)
    total = own + other
    mixed = (own * targets + other * neighbors(targets)) / torch.where(total > 0, total, 1)
    return mixed, total


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a weight for each class, float64 (C,), such that all classes that occur count the same together.

    Of class numbers (N,), -1 where unknown, it is scikit-learn's `balanced`, N / (classes × samples of the class), so
    that the mean over the samples is 1. Of several classes a sample, uint8 (N, C), it is what torch documents as
    `pos_weight`: samples without the class / samples with it. A class that does not occur gets 1.
    """
    if labels.ndim == 2:
        counts = (labels == 1).sum(0)
        ratios = (len(labels) - counts) / np.maximum(counts, 1)
        return np.where((counts > 0) & (ratios > 0), ratios, 1.0)
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    return np.where(counts > 0, counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1.0)


def _class_weights(dataset: LatentDataset, kind: str, count: int, config: TrainConfig) -> Tensor | None:
    if config.class_weights is None:
        return None
    if config.class_weights == BALANCED:
        return torch.from_numpy(balanced_weights(dataset.labels, count)).float()
    if len(config.class_weights) != count:
        raise CallError(
            f"{len(config.class_weights)} class weights for {count} classes; give one for each, in the order of the "
            f"class numbers, or {BALANCED}"
        )
    return torch.tensor(config.class_weights, dtype=torch.float32)
