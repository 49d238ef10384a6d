"""Checks that the labels of a data set can be learned."""

from __future__ import annotations

import numpy as np

from classifiers.evaluation.predictions import compatible
from classifiers.models.classifier import LatentClassifier
from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError


def trainable(model: LatentClassifier, dataset: LatentDataset) -> LatentDataset:
    """Return the data set as the model reads it; raises `CallError` for labels that it cannot learn."""
    dataset = compatible(model, dataset)
    labels = dataset.labels
    if not is_known(labels).any():
        raise CallError(
            f"no sample of split {dataset.split!r} in {dataset.folder} has a label; prepare it from class folders, or "
            "with a table of labels"
        )
    if dataset.layout.labels.kind == "class" and labels.max() >= model.config.num_classes:
        raise CallError(
            f"label {labels.max()} in {dataset.folder}, but the model has {model.config.num_classes} classes, "
            "numbered from 0; use a model with more classes"
        )
    return dataset


def require_variety(dataset: LatentDataset) -> None:
    """Raise `CallError` if all samples have the same label."""
    labels = dataset.labels
    known = labels[is_known(labels)]
    columns = (column[~np.isnan(column)] for column in known.reshape(len(known), -1).T)
    if all((column == column[:1]).all() for column in columns):
        noun = {"class": "class", "multilabel": "classes"}.get(dataset.layout.labels.kind, "targets")
        raise CallError(
            f"all samples of split {dataset.split!r} in {dataset.folder} have the same {noun}, so there is nothing "
            "to learn; prepare more of the source, or all of its classes"
        )


def is_known(labels: np.ndarray) -> np.ndarray:
    """Return which samples have a label, or at least one target, bool (N,)."""
    if labels.dtype == np.uint8:
        return np.ones(len(labels), bool)
    if labels.dtype == np.float32:
        return ~np.isnan(labels.reshape(len(labels), -1)).all(1)
    return labels >= 0
