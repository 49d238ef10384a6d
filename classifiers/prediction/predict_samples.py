"""Predictions of a run's classifier on files, and on stored latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from classifiers.evaluation.predictions import Predictions, predict
from classifiers.models.classifier import LatentClassifier
from classifiers.prediction.encode_files import EncodedFiles, FileEncoder
from classifiers.prediction.table import PredictionTable, require_top
from datasets_prep.sources.folders.imagefolder import IMAGE_SUFFIXES
from datasets_prep.sources.folders.local_folder import list_files
from datasets_prep.sources.signals.audiofolder import AUDIO_SUFFIXES
from walloc_cdl.addresses import local_path
from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError, JobError

CHUNK_SAMPLES = 8192
"""Stored samples whose logits are in memory together."""

MODEL_BATCH = 64
"""Signals that the model takes at a time."""

OnProgress = Callable[[int, int], object]
"""Called with the number of samples done, and that of all."""


def find_files(inputs: Sequence[Path | str], kind: str = "image") -> tuple[list[Path], int]:
    """Returns the files that are named, and those of a kind in the folders that are named and in their subfolders.

    The kind is `image` or `audio`. The second value is the number of other files in the folders. Raises `CallError` for
    a folder without a file of the kind.
    """
    suffixes, noun = (AUDIO_SUFFIXES, "sound") if kind == "audio" else (IMAGE_SUFFIXES, "image")
    examples = "clips" if kind == "audio" else "photos"
    found: list[Path] = []
    num_others = 0
    for each in inputs:
        path = local_path(each)
        if not path.is_dir():
            found.append(path)
            continue
        images, others = list_files(path, suffixes)
        if not images:
            raise CallError(
                f"folder {path} has no {noun} files; give {examples}, a folder of them, or a data set of latents"
            )
        found += images
        num_others += others
    return found, num_others


def predict_files(
    model: LatentClassifier,
    encoder: FileEncoder,
    files: Sequence[Path],
    *,
    top: int = 1,
    on_batch: Callable[[EncodedFiles], object] | None = None,
    progress: OnProgress | None = None,
) -> PredictionTable:
    """Classify files, on the device that the classifier is on; a clip by the mean of the logits of its segments.

    Files that cannot be read are in the table as `unreadable`. `on_batch` is called with each batch, before `progress`.
    Raises `JobError` if logits are not finite, `CallError` for a `top` below one.
    """
    table = _empty_table(model, top)
    device, was_training, done = next(model.parameters()).device, model.training, 0
    model.eval()
    try:
        for batch in encoder.encode(files):
            if batch.names:
                with torch.inference_mode():
                    parts = torch.cat([model(part.to(device)).float().cpu() for part in batch.codes.split(MODEL_BATCH)])
                logits = np.stack([part.mean(0).numpy() for part in parts.split(batch.counts)])
                table.append(batch.names, _outputs(Predictions(logits, np.full(len(logits), -1), table.label_kind)))
            table.unreadable += batch.unreadable
            done += len(batch.names) + len(batch.unreadable)
            if on_batch:
                on_batch(batch)
            if progress:
                progress(done, len(files))
    finally:
        model.train(was_training)
    return table


def predict_stored(
    model: LatentClassifier, dataset: LatentDataset, *, top: int = 1, progress: OnProgress | None = None
) -> PredictionTable:
    """Classify the samples of a data set, on the device that the classifier is on; raises as `predict` does.

    Raises `JobError` if logits are not finite, `CallError` for a `top` below one.
    """
    table = _empty_table(model, top)
    for rows in _chunks(len(dataset)):
        predictions = predict(
            model,
            dataset.select(rows),
            progress=progress and (lambda done, _, start=rows.start: progress(start + done, len(dataset))),
        )
        labels = predictions.labels if table.label_kind == "class" else None
        table.append(dataset.keys(rows), _outputs(predictions), labels)
    return table


def _chunks(count: int) -> Iterator[range]:
    return (range(start, min(start + CHUNK_SAMPLES, count)) for start in range(0, count, CHUNK_SAMPLES))


def _empty_table(model: LatentClassifier, top: int) -> PredictionTable:
    config = model.config
    names = config.target_names if config.label_kind == "regression" else config.class_names
    return PredictionTable(names, require_top(top, config.num_classes), label_kind=config.label_kind)


def _outputs(predictions: Predictions) -> np.ndarray:
    """Return the probabilities, or the targets of regression, (N, num_classes)."""
    if not np.isfinite(predictions.logits).all():
        raise JobError("logits are not finite numbers: the classifier diverged in training; train it with a lower lr")
    return predictions.logits if predictions.label_kind == "regression" else predictions.probabilities
