"""Predictions of a classifier on a data set, and their metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from classifiers.evaluation.metrics import Metrics, metrics_of_classes
from classifiers.evaluation.reading import Reading, logit_batches, unit_labels
from classifiers.models.classifier import LatentClassifier, require_class_numbers
from walloc_cdl.data import LatentDataset, as_latents
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.training import autocast, choose_precision


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits and labels of all samples of a split, in the order of the split."""

    logits: np.ndarray
    """float32 (N, num_classes)."""
    labels: np.ndarray
    """int64 (N,), -1 where unknown."""

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, float64 (N, num_classes)."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Answers:
    """The predicted classes and the labels of all samples of a split, in the order of the split."""

    predicted: np.ndarray
    """int64 (N,)."""
    labels: np.ndarray
    """int64 (N,), -1 where unknown."""
    probabilities: np.ndarray | None
    """float64 (N, 2) of a classifier of two classes; None for more, so that memory does not grow with their number."""


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
    """Run the classifier over all samples, on the device that it is on, and return the logits of all.

    `dataset` is a `LatentDataset`, or a `torch.utils.data.Subset` of one. The default precision is fp32, so that
    figures do not depend on the instructions of a CPU. `progress` is called after each batch with the number of
    samples done and the number of all samples. Of rows with more bit planes than the classifier takes, it reads as many
    as it takes. Raises `SpecMismatchError` or `CallError` if the data set does not
    match the one that the classifier was trained on.

    `reading` says how samples are read; by default, one view of each, tiles of those that differ in size, and each
    segment of a clip by itself.
    """
    dataset, reading = as_latents(dataset), reading or Reading(unit="sample")
    kept = _run(model, dataset, reading, lambda logits: logits.float(), batch_size, precision, residency, progress)
    return Predictions(
        torch.cat([torch.zeros(0, model.config.num_classes), *kept]).numpy(), unit_labels(dataset, reading)
    )


def classify(
    model: LatentClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    reading: Reading | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Run the classifier as `predict` does, and keep only the classes; a million samples of many classes fit.

    By default, there is one answer for all segments of a clip.

    Raises `JobError` if logits are not finite, as those of a classifier whose training diverged.
    """
    dataset, reading = as_latents(dataset), reading or Reading()
    if model.config.num_classes == 2:
        predictions = predict(
            model, dataset, batch_size=batch_size, precision=precision, reading=reading, progress=progress
        )
        _require_finite(np.isfinite(predictions.logits).all(1))
        return Answers(predictions.logits.argmax(1), predictions.labels, predictions.probabilities)
    kept = _run(model, dataset, reading, _predicted_classes, batch_size, precision, "auto", progress)
    predicted = torch.cat([torch.zeros(0, dtype=torch.int64), *kept]).numpy()
    _require_finite(predicted >= 0)
    return Answers(predicted, unit_labels(dataset, reading), None)


def _predicted_classes(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of each sample (B,), and -1 for logits that are not finite."""
    return torch.where(logits.isfinite().all(1), logits.float().argmax(1), -1)


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
) -> Metrics:
    """Returns the metrics of the answers of `classify`, and raises as it does; samples without a label are left out."""
    answers = classify(model, dataset, batch_size=batch_size, precision=precision, reading=reading, progress=progress)
    positive = None if answers.probabilities is None else answers.probabilities[:, 1]
    return metrics_of_classes(answers.predicted, answers.labels, model.config.num_classes, positive=positive)


@torch.inference_mode()
def _run(
    model: LatentClassifier,
    dataset: LatentDataset,
    reading: Reading,
    reduce: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int,
    precision: str,
    residency: str,
    progress: Callable[[int, int], None] | None,
) -> list[torch.Tensor]:
    """Returns what `reduce` makes of the logits of each batch, on the CPU."""
    dataset = compatible(model, dataset)
    device = next(model.parameters()).device
    precision = choose_precision(precision, device)
    was_training = model.training
    model.eval()
    kept = []

    def run(codes: torch.Tensor) -> torch.Tensor:
        with autocast(precision, device):
            return model(codes)

    try:
        for logits, _, num_done in logit_batches(
            run, dataset, model.config.latent_shape, reading, batch_size=batch_size, device=device, residency=residency
        ):
            kept.append(reduce(logits).cpu())
            if progress:
                progress(num_done, len(dataset))
    finally:
        model.train(was_training)
    return kept


def compatible(model: LatentClassifier, dataset: LatentDataset) -> LatentDataset:
    """Returns the data set as the classifier reads it: with as many bit planes as it takes, if the latents have any.

    It must have class numbers as labels, and the spec, latent shape and classes of the classifier. Raises
    `SpecMismatchError` or `CallError`, naming both values.
    """
    config, data_name = model.config, f"the data set {dataset.folder}"
    require_class_numbers(dataset)
    wanted, found = config.spec.num_planes, dataset.spec.num_planes
    if wanted and found and dataset.spec.codec_id == config.spec.codec_id:
        if found < wanted:
            raise CallError(
                f"the classifier takes {wanted} bit planes, but {data_name} is read with {found} of them; prepare or "
                f"open it with at least {wanted}, or train a classifier on {found}"
            )
        dataset = dataset if found == wanted else dataset.with_planes(wanted)
    config.spec.require_equal(dataset.spec, name=f"the classifier {config.name}", other_name=data_name)
    if not dataset.layout.ragged and tuple(dataset.latent_shape) != config.latent_shape:
        raise CallError(
            f"the classifier takes latents of shape {config.latent_shape}, but {data_name} has "
            f"{tuple(dataset.latent_shape)}; prepare it with the size that the classifier was trained on"
        )
    if config.class_names is None or dataset.class_names is None:
        return dataset
    expected, found = list(config.class_names), list(dataset.class_names)
    if len(expected) != len(found):
        raise CallError(
            f"the classifier has {len(expected)} classes, but {data_name} has {len(found)}; "
            "the classes must be the same"
        )
    for number, (expected_name, found_name) in enumerate(zip(expected, found, strict=True)):
        if expected_name != found_name:
            raise CallError(
                f"class {number} of the classifier is {expected_name!r}, but of {data_name} it is {found_name!r}; "
                "prepare it with the classes in the same order"
            )
    return dataset
