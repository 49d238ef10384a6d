"""Latents in, logits out: timm models behind a latent stem, their training and their evaluation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifiers.evaluation import evaluate, predict
    from classifiers.load import load_classifier
    from classifiers.metrics import Metrics
    from classifiers.model import LatentClassifier, create_model
    from classifiers.train_config import TrainConfig
    from classifiers.training import train
    from walloc_cdl.training import RunRecord, TrainProgress

_HOMES = {
    "LatentClassifier": "classifiers.model",
    "Metrics": "classifiers.metrics",
    "RunRecord": "walloc_cdl.training",
    "TrainConfig": "classifiers.train_config",
    "TrainProgress": "walloc_cdl.training",
    "create_model": "classifiers.model",
    "evaluate": "classifiers.evaluation",
    "load_classifier": "classifiers.load",
    "predict": "classifiers.evaluation",
    "train": "classifiers.training",
}

__all__ = [
    "LatentClassifier",
    "Metrics",
    "RunRecord",
    "TrainConfig",
    "TrainProgress",
    "create_model",
    "evaluate",
    "load_classifier",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: timm and scikit-learn take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classifiers' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
