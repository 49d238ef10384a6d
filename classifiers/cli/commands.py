"""The commands that train and evaluate classifiers."""

from __future__ import annotations

from classifiers.cli import learning, weights
from walloc_cdl.cli.registry import CommandTable

COMMANDS = CommandTable(
    {"train": learning.train, "evaluate": learning.evaluate, "weights convert": weights.convert},
    groups={"weights": "Weights of published classifiers."},
)
