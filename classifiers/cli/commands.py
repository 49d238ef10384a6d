"""The commands that train and evaluate classifiers."""

from __future__ import annotations

from classifiers.cli import learning, models, prediction, probe, training, weights
from walloc_cdl.cli.registry import CommandTable

COMMANDS = CommandTable(
    {
        "probe": probe.probe,
        "train": training.train,
        "evaluate": learning.evaluate,
        "predict": prediction.predict,
        "model export": models.export,
        "model push": models.push,
        "weights convert": weights.convert,
    },
    groups={"model": "Classifiers of runs.", "weights": "Weights of published classifiers."},
)
