"""A classifier's predictions on a data set, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from classifiers.metrics import Metrics, compute_metrics
from classifiers.model import LatentClassifier, require_class_numbers
from walloc_cdl.data import LatentDataset, LatentLoader
from walloc_cdl.errors import CallError
from walloc_cdl.training import autocast, choose_precision


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier says about each sample of a split, in the split's order."""

    logits: np.ndarray
    """float32 (N, num_classes)."""
    labels: np.ndarray
    """int64 (N,), -1 where unknown."""

    @property
    def probabilities(self) -> np.ndarray:
        """float64 (N, num_classes), rows summing to one."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)


@torch.inference_mode()
def predict(
    model: LatentClassifier,
    dataset: LatentDataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    residency: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run the classifier, on the device that it is on, over all samples.

    In fp32 by default, so that a figure does not hang on the instructions of a CPU. `progress` is called
    after each batch with the samples done and all. Raises
    `SpecMismatchError` or `CallError` if the data set is not what the classifier was trained on.
    """
    require_fitting(model, dataset)
    device = next(model.parameters()).device
    precision = choose_precision(precision, device)
    loader = LatentLoader(dataset, batch_size, device=device, shuffle=False, drop_last=False, residency=residency)
    was_training = model.training
    model.eval()
    try:
        logits = [torch.zeros(0, model.config.num_classes)]
        for number, (codes, _) in enumerate(loader, start=1):
            with autocast(precision, device):
                logits.append(model(codes).float().cpu())
            if progress:
                progress(min(number * batch_size, len(dataset)), len(dataset))
    finally:
        model.train(was_training)
    return Predictions(torch.cat(logits).numpy(), dataset.labels)


def evaluate(
    model: LatentClassifier,
    dataset: LatentDataset,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Metrics:
    """The metrics of `predict`'s predictions; samples of unknown label are left out."""
    predictions = predict(model, dataset, batch_size=batch_size, precision=precision, progress=progress)
    return compute_metrics(predictions.probabilities, predictions.labels)


def require_fitting(model: LatentClassifier, dataset: LatentDataset) -> None:
    """Raise unless the data set has class numbers, and the classifier's spec, latent shape and classes, naming both
    values.
    """
    config, there = model.config, f"the data set {dataset.folder}"
    require_class_numbers(dataset)
    config.spec.require_equal(dataset.spec, name=f"the classifier {config.name}", other_name=there)
    if tuple(dataset.latent_shape) != config.latent_shape:
        raise CallError(
            f"the classifier takes latents of shape {config.latent_shape}, but {there} has "
            f"{tuple(dataset.latent_shape)}; prepare it with the size that the classifier was trained on"
        )
    if config.class_names is None or dataset.class_names is None:
        return
    ours, theirs = list(config.class_names), list(dataset.class_names)
    if len(ours) != len(theirs):
        raise CallError(
            f"the classifier has {len(ours)} classes, but {there} has {len(theirs)}; the classes must be the same"
        )
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other:
            raise CallError(
                f"class {number} of the classifier is {mine!r}, but of {there} it is {other!r}; "
                "prepare it with the classes in the same order"
            )
