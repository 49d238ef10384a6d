"""The commands that train and evaluate classifiers."""

from __future__ import annotations

from classifiers.cli import learning
from walloc_cdl.cli.registry import CommandTable

COMMANDS = CommandTable({"train": learning.train, "evaluate": learning.evaluate})
