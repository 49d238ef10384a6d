"""Predictions of a classifier on a data set, and their metrics, for each kind of label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import Tensor
from torch.utils.data import Dataset

from classifiers.evaluation.kinds import AnyMetrics
from classifiers.evaluation.metrics import ClassScores, metrics_of_classes
from classifiers.evaluation.multilabel import metrics_of_labels
from classifiers.evaluation.reading import Reading, logit_batches, unit_labels
from classifiers.evaluation.regression import metrics_of_targets
from classifiers.models.classifier import LatentClassifier
from walloc_cdl.data import LatentDataset, as_latents
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.training import autocast, choose_precision

MAX_PROBABILITIES = 10**7
"""Probabilities of all classes are kept, for the area under the ROC curve, up to this number of values, 40 MB."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model computes for all samples of a split, and their labels, in the order of the split."""

    logits: np.ndarray
    """float32 (N, num_classes); of regression, the predicted targets (N, T)."""
    labels: np.ndarray
    """As `LabelSpec` has them: class numbers int64 (N,), -1 where unknown; uint8 (N, L); float32 (N,) or (N, T)."""
    label_kind: str = "class"
    """`class`, `multilabel` or `regression`."""

    @property
    def probabilities(self) -> np.ndarray:
        """The probabilities of the classes, float64 (N, num_classes).

        They are the softmax of the logits, or of several classes a sample their sigmoid. Raises `CallError` for
        regression.
        """
        logits = self.logits.astype(np.float64)
        if self.label_kind == "multilabel":
            return expit(logits)
        if self.label_kind == "regression":
            raise CallError("regression has no probabilities; the predicted targets are in `logits`")
        return softmax(logits, axis=1)


@dataclass(frozen=True, eq=False)
class Answers:
    """The predicted classes and the labels of all samples of a split, in the order of the split."""

    predicted: np.ndarray
    """int64 (N,)."""
    labels: np.ndarray
    """int64 (N,), -1 where unknown."""
    scores: ClassScores
    """Probabilities; those of all classes only where there are at most `MAX_PROBABILITIES` of them."""


def predict(
    model: LatentClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    residency: str = "auto",
    reading: Reading | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run the classifier over all samples, on the device that it is on, and return its output for all.

    `dataset` is a `LatentDataset`, or a `torch.utils.data.Subset` of one. The default precision is fp32, so that
    figures do not depend on the instructions of a CPU. `progress` is called after each batch with the number of
    samples done and the number of all samples. Of rows with more bit planes than the classifier takes, it reads as many
    as it takes. Raises `SpecMismatchError` or `CallError` if the data set does not
    match the one that the classifier was trained on.

    `reading` says how samples are read; by default, one view of each, tiles of those that differ in size, and each
    segment of a clip by itself.
    """
    dataset, reading = as_latents(dataset), reading or Reading(unit="sample")
    kept = _run(
        model, dataset, reading, lambda logits, _: (logits.float(),), batch_size, precision, residency, progress
    )
    logits = kept[0].numpy() if kept else np.zeros((0, model.config.num_classes), np.float32)
    return Predictions(logits, unit_labels(dataset, reading), model.config.label_kind)


def classify(
    model: LatentClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    reading: Reading | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Run a classifier of one class a sample as `predict` does, and keep only what the metrics need.

    By default, there is one answer for all segments of a clip. A million samples of many classes fit into memory.
    Raises `JobError` if logits are not finite, as those of a classifier whose training diverged.
    """
    dataset, reading = as_latents(dataset), reading or Reading()
    keep_all = len(dataset) * model.config.num_classes <= MAX_PROBABILITIES
    kept = _run(model, dataset, reading, partial(_answers, keep_all=keep_all), batch_size, precision, "auto", progress)
    if not kept:
        empty = np.zeros(0)
        return Answers(empty.astype(np.int64), dataset.labels, ClassScores(empty, empty, empty))
    predicted, confidence, of_label, rank, probabilities = (part.numpy() for part in kept)
    _require_finite(predicted >= 0)
    scores = ClassScores(confidence, of_label, rank, probabilities if keep_all else None)
    return Answers(predicted, unit_labels(dataset, reading), scores)


def _answers(logits: Tensor, labels: Tensor, *, keep_all: bool) -> tuple[Tensor, ...]:
    """Return, of each sample (B,), the class, its probability, that of the label and the label's rank.

    The class is -1 for logits that are not finite. The probabilities of all classes (B, num_classes) come last if they
    are kept, and are (B, 0) otherwise.
    """
    logits = logits.float()
    probabilities = logits.softmax(1)
    predicted = torch.where(logits.isfinite().all(1), logits.argmax(1), -1)
    known = (labels >= 0) & (labels < logits.shape[1])
    column = torch.where(known, labels, 0)[:, None]
    of_label = torch.where(known, probabilities.gather(1, column)[:, 0], torch.nan)
    rank = (logits > logits.gather(1, column)).sum(1)
    return predicted, probabilities.amax(1), of_label, rank, probabilities if keep_all else probabilities[:, :0]


def _require_finite(finite: np.ndarray) -> None:
    if num_wrong := int((~finite).sum()):
        raise JobError(
            f"{num_wrong} of {len(finite)} predictions are not finite numbers: the classifier diverged in "
            "training, or its precision is too low; train it with a lower lr, or evaluate it with precision fp32"
        )


def evaluate(
    model: LatentClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    reading: Reading | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AnyMetrics:
    """Returns the metrics of the model's predictions for the kind of its labels.

    They are `Metrics` of class numbers, `MultilabelMetrics` or `RegressionMetrics`. Samples without a label are left
    out. By default, there is one answer for all segments of a clip. Raises as `classify` does.
    """
    return assess(model, dataset, batch_size=batch_size, precision=precision, reading=reading, progress=progress)[0]


def assess(
    model: LatentClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    reading: Reading | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[AnyMetrics, Answers | Predictions]:
    """Returns the metrics of `evaluate`, and what they follow from; of class numbers these are `Answers`."""
    dataset, reading = as_latents(dataset), reading or Reading()
    if model.config.label_kind == "class":
        answers = classify(
            model, dataset, batch_size=batch_size, precision=precision, reading=reading, progress=progress
        )
        metrics = metrics_of_classes(answers.predicted, answers.labels, model.config.num_classes, scores=answers.scores)
        return metrics, answers
    predictions = predict(
        model, dataset, batch_size=batch_size, precision=precision, reading=reading, progress=progress
    )
    _require_finite(np.isfinite(predictions.logits).all(1))
    if model.config.label_kind == "multilabel":
        return metrics_of_labels(predictions.probabilities, predictions.labels), predictions
    return metrics_of_targets(predictions.logits, predictions.labels), predictions


@torch.inference_mode()
def _run(
    model: LatentClassifier,
    dataset: LatentDataset,
    reading: Reading,
    reduce: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    batch_size: int,
    precision: str,
    residency: str,
    progress: Callable[[int, int], None] | None,
) -> list[Tensor]:
    """Returns what `reduce` makes of the logits and labels of each batch, joined, on the CPU; nothing of no sample."""
    dataset = compatible(model, dataset)
    device = next(model.parameters()).device
    precision = choose_precision(precision, device)
    was_training = model.training
    model.eval()
    kept: list[tuple[Tensor, ...]] = []

    def run(codes: Tensor) -> Tensor:
        with autocast(precision, device):
            return model(codes)

    try:
        for logits, labels, num_done in logit_batches(
            run, dataset, model.config.latent_shape, reading, batch_size=batch_size, device=device, residency=residency
        ):
            kept.append(tuple(part.cpu() for part in reduce(logits, labels)))
            if progress:
                progress(num_done, len(dataset))
    finally:
        model.train(was_training)
    return [torch.cat(parts) for parts in zip(*kept, strict=True)]


def compatible(model: LatentClassifier, dataset: LatentDataset) -> LatentDataset:
    """Returns the data set as the classifier reads it: with as many bit planes as it takes, if the latents have any.

    A classifier with budgets takes any number of them. The data set must have the kind of labels, the spec, the latent
    shape and the classes (or targets) of the classifier; data without labels are allowed. Raises `SpecMismatchError` or
    `CallError`, naming both values.
    """
    config, data_name = model.config, f"the data set {dataset.folder}"
    kind = dataset.layout.labels.kind
    if kind not in (config.label_kind, "none"):
        raise CallError(
            f"the classifier learned labels of kind {config.label_kind!r}, but those of {data_name} are of kind "
            f"{kind!r}; use one that was trained on such labels"
        )
    wanted, found = config.spec.num_planes, dataset.spec.num_planes
    if wanted and found and dataset.spec.codec_id == config.spec.codec_id:
        if found < wanted and config.budgets is not None:
            dataset.spec.require_equal(
                config.spec.with_planes(found), name=data_name, other_name=f"the classifier {config.name}"
            )
            wanted = found
        if found < wanted:
            raise CallError(
                f"the classifier takes {wanted} bit planes, but {data_name} is read with {found} of them; prepare or "
                f"open it with at least {wanted}, or train a classifier on {found}"
            )
        dataset = dataset if found == wanted else dataset.with_planes(wanted)
    if config.budgets is None or dataset.spec.num_planes == config.spec.num_planes:
        config.spec.require_equal(dataset.spec, name=f"the classifier {config.name}", other_name=data_name)
    if not dataset.layout.ragged and tuple(dataset.latent_shape)[1:] != config.latent_shape[1:]:
        raise CallError(
            f"the classifier takes latents of shape {config.latent_shape}, but {data_name} has "
            f"{tuple(dataset.latent_shape)}; prepare it with the size that the classifier was trained on"
        )
    for noun, plural, ours, theirs in (
        ("class", "classes", config.class_names, dataset.class_names),
        ("target", "targets", config.target_names, dataset.manifest.target_names),
    ):
        if ours is not None and theirs is not None:
            _require_names(noun, plural, ours, theirs, data_name)
    return dataset


def _require_names(noun: str, plural: str, expected: Sequence[str], found: Sequence[str], data_name: str) -> None:
    """Raise `CallError` unless the names of classes or targets are the same, in the same order."""
    if len(expected) != len(found):
        raise CallError(
            f"the classifier has {len(expected)} {plural}, but {data_name} has {len(found)}; "
            f"the {plural} must be the same"
        )
    for number, (expected_name, found_name) in enumerate(zip(expected, found, strict=True)):
        if expected_name != found_name:
            raise CallError(
                f"{noun} {number} of the classifier is {expected_name!r}, but of {data_name} it is {found_name!r}; "
                f"prepare it with the {plural} in the same order"
            )
