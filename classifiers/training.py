"""`train`: a classifier, a data set and a recipe in; a run folder and its `RunRecord` out."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifiers.checkpoint import load_tensors, load_weights, tensors_to_bytes
from classifiers.ema import weights_of
from classifiers.environment import describe_environment, source_commit
from classifiers.evaluation import evaluate, require_fitting
from classifiers.loop import Progress, TrainingLoop, TrainProgress, seed_torch
from classifiers.model import LatentClassifier
from classifiers.precision import choose_precision
from classifiers.recipe import TrainConfig
from classifiers.record import RunRecord
from classifiers.run_folder import RunFolder, config_digest
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.data import LatentDataset, LatentLoader
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import write_atomic

__all__ = ["Progress", "TrainConfig", "TrainProgress", "train"]


def train(
    model: LatentClassifier | Callable[[], LatentClassifier],
    train_ds: LatentDataset,
    val_ds: LatentDataset | None,
    config: TrainConfig,
    out: Path | str,
    *,
    device: str | torch.device | None = None,
    residency: str = "auto",
    resume: bool = True,
    progress: Progress | None = None,
) -> RunRecord:
    """Train a classifier into the folder `out`, and evaluate its averaged weights on `val_ds`.

    `model` is a classifier, which holds the averaged weights afterwards, or a function that makes one,
    whose weights then follow from `config.seed`. The state is saved after every epoch: a run that was
    interrupted goes on when the same call is made again, and ends with the very weights of an
    uninterrupted one (on the same machine; CUDA kernels may differ in the last bit). A finished run is
    returned as it is; with `resume` false an earlier run in `out` is discarded instead. Torch's global
    generators are left as they were.

    Of stored views training draws one of each sample's in every epoch, and validation takes the data set's own.

    Raises `CallError` if `out` holds something else or a run of another configuration, if the data sets
    are not what the model is for, or if no label is known; `JobError` if the loss diverges.
    """
    run = RunFolder(out)
    device = choose_device(device)
    precision = choose_precision(config.precision, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if not isinstance(model, LatentClassifier):
            seed_torch(config.seed)
            model = model()
        _require_trainable(model, train_ds, val_ds)
        run_config = {
            "classifier": model.config.to_json(),
            "train": config.to_json(),
            "data": {
                "train": _identity(train_ds),  # whatever its view: all are drawn
                "validation": None if val_ds is None else {**_identity(val_ds), "view": val_ds.view},
            },
        }
        run.claim(run_config, resume=resume)
        if run.is_finished:
            return run.load_record()
        loader = LatentLoader(
            train_ds,
            min(config.batch_size, len(train_ds)),
            device=device,
            shuffle=True,
            drop_last=True,
            seed=config.seed,
            residency=residency,
            views="random" if train_ds.num_views > 1 else None,
        )
        loop = TrainingLoop(model, loader, config, device=device, precision=precision, progress=progress)
        _run_epochs(loop, run, config_digest(run_config))
    return _finish(loop, run, run_config, val_ds)


def _require_trainable(model: LatentClassifier, train_ds: LatentDataset, val_ds: LatentDataset | None) -> None:
    for dataset in (train_ds, val_ds):
        if dataset is None:
            continue
        require_fitting(model, dataset)
        labels = dataset.labels
        if not (labels >= 0).any():
            raise CallError(
                f"no sample of split {dataset.split!r} in {dataset.folder} has a label; prepare it from class folders"
            )
        if labels.max() >= model.config.num_classes:
            raise CallError(
                f"label {labels.max()} in {dataset.folder}, but the model knows {model.config.num_classes} classes"
            )
    if len(np.unique(train_ds.labels[train_ds.labels >= 0])) < 2:
        raise CallError(
            f"all samples of split {train_ds.split!r} in {train_ds.folder} are of one class, so there is nothing to "
            "learn; prepare more of the source (--limit takes the first samples only)"
        )


def _identity(dataset: LatentDataset) -> dict[str, Any]:
    """What a run keeps of its data: enough to know them again."""
    return {
        "manifest_sha256": dataset.manifest.digest(),
        "split": dataset.split,
        "num_samples": len(dataset),
    }


def _run_epochs(loop: TrainingLoop, run: RunFolder, digest: str) -> None:
    if run.checkpoint_path.is_file():
        tensors, values = load_tensors(run.checkpoint_path)
        if values.get("config_sha256") != digest:
            raise DamagedError(f"{run.checkpoint_path} is of another run than config.json; name another folder")
        loop.restore(tensors, values, origin=str(run.checkpoint_path))
    while loop.epoch < loop.config.epochs:
        loop.run_epoch()
        tensors, values = loop.state()
        write_atomic(run.checkpoint_path, tensors_to_bytes(tensors, {**values, "config_sha256": digest}))


def _finish(loop: TrainingLoop, run: RunFolder, run_config: dict[str, Any], val_ds: LatentDataset | None) -> RunRecord:
    """Evaluate the averaged weights, save them, and write the record."""
    model = loop.model
    load_weights(model, loop.average.weights, origin="the average")
    weights = tensors_to_bytes(weights_of(model))
    record = RunRecord(
        config=run_config,
        seeds={"train": loop.config.seed},
        commit=source_commit(),
        environment=describe_environment(loop.device, loop.precision),
        metrics=None if val_ds is None else evaluate(model, val_ds),
        elapsed_s=loop.history.elapsed_s,
        images_per_s=statistics.median(loop.history.images_per_s),
        losses=loop.history.losses,
        weights_sha256=sha256_hex(weights),
    )
    write_atomic(run.weights_path, weights)
    run.save_record(record)
    return record
