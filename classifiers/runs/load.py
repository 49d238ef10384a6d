"""Loads the classifier of a finished run."""

from __future__ import annotations

from pathlib import Path

import torch

from classifiers.evaluation.kinds import AnyMetrics, metrics_type
from classifiers.models.classifier import LatentClassifier, rebuild_model
from classifiers.models.config import ClassifierConfig
from classifiers.models.size_check import common_dtype, require_weights_fit
from walloc_cdl.canonical import sha256_file
from walloc_cdl.errors import CallError, DamagedError, first_line
from walloc_cdl.training import RunFolder, RunRecord, copy_into, load_tensors
from walloc_cdl.training.checkpoint import REMEDY


def load_classifier(folder: Path | str) -> LatentClassifier:
    """Load the classifier of a finished run, in eval mode, on the CPU; needs neither network nor data set.

    Raises `CallError` for a folder without a finished run, `DamagedError` if a file is missing or has changed.
    """
    run = RunFolder(folder)
    expected = load_record(run).weights_sha256
    config = ClassifierConfig.from_json(run.load_config().get("classifier"), f"{run.config_path}, classifier")
    if not run.weights_path.is_file():
        raise DamagedError(f"{run.weights_path} is missing; {REMEDY}")
    found = sha256_file(run.weights_path)
    if found != expected:
        raise DamagedError(f"{run.weights_path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…; {REMEDY}")
    tensors, _ = load_tensors(run.weights_path)
    require_weights_fit(config, tensors, run)
    try:
        model = rebuild_model(config)
    except (CallError, RuntimeError) as error:
        raise DamagedError(f"{run.config_path}, classifier: {first_line(error)}; {REMEDY}") from error
    if dtype := common_dtype(tensors):
        model.to(dtype)
    copy_into(model.saved_weights(), tensors, origin=str(run.weights_path))
    # The layout of training, in which convolutions are faster, also on a CPU, and round in the same way.
    return model.eval().to(memory_format=torch.channels_last)


def load_record(run: RunFolder) -> RunRecord[AnyMetrics]:
    """Returns the record of a finished run, with the metrics of its kind of label; raises as `RunFolder` does."""
    classifier = run.load_config().get("classifier")
    label_kind = classifier.get("label_kind") if isinstance(classifier, dict) else None
    return run.load_record(metrics_type(label_kind, f"{run.config_path}, classifier"))
