"""`train`: trains a classifier on a data set, and returns the `RunRecord` of the run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import Dataset

from classifiers.evaluation.kinds import METRICS, AnyMetrics
from classifiers.evaluation.predictions import evaluate
from classifiers.models.classifier import LatentClassifier
from classifiers.runs.augmentation import build_augmentation, build_cache
from classifiers.runs.features import FeatureLoader, OnFeatures, keep_features
from classifiers.runs.freezing import build_freezing
from classifiers.runs.kept_codec import keep_codec
from classifiers.runs.labels import require_variety, trainable
from classifiers.runs.losses import build_loss
from classifiers.runs.mixing import build_mixing, mixes_in
from classifiers.runs.reports import write_reports
from classifiers.runs.run_config import run_config
from classifiers.runs.step import ClassifierStep
from classifiers.runs.train_config import TrainConfig
from walloc_cdl.data import as_latents
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, first_line
from walloc_cdl.threads import torch_threads
from walloc_cdl.training import (
    Progress,
    RunFolder,
    RunRecord,
    TrainingLoop,
    TrainProgress,
    choose_precision,
    describe_environment,
    finish_run,
    run_epochs,
    seed_torch,
)

__all__ = ["Progress", "RunRecord", "TrainProgress", "train"]


def train(
    model: LatentClassifier | Callable[[], LatentClassifier],
    train_ds: Dataset,
    val_ds: Dataset | None,
    config: TrainConfig,
    out: Path | str,
    *,
    device: str | torch.device | None = None,
    residency: str = "auto",
    threads: int | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    on_features: OnFeatures | None = None,
) -> RunRecord[AnyMetrics]:
    """Train a classifier, write the run to the folder `out`, and evaluate the averaged weights on `val_ds`.

    `model` is a classifier, which has the averaged weights afterwards, or a function that builds one,
    whose initial weights then follow from `config.seed`. The state is saved after every epoch: the same call
    resumes an interrupted run, and the final weights are exactly those of an
    uninterrupted run (on the same machine; CUDA kernels may differ in the last bit). For a finished run the
    record is returned; with `resume` false an earlier run in `out` is discarded. Torch's global
    generators keep their state.

    The folder also has `classes.csv`, the figures of each class, or of each target of regression, on `val_ds`,
    `index.html`, a page with curves, worst mistakes, confusion matrix and calibration; and `codec/`, that of the data
    set, if it has one, so that files can be classified without the data set.

    The last bits of the weights depend on the number of torch's threads as well. By default, a short trial on a CPU
    chooses the number that is fastest when the run begins, at most the one that is set; the record has it as
    `environment["threads"]`, and a resumed run keeps it. `threads` repeats a run with the same number.

    The data sets are `LatentDataset`s, or `torch.utils.data.Subset`s of them, such as `random_split` makes. If they
    store several views, training draws one for each sample in every epoch, and validation uses the
    `view` of `val_ds`.

    With `config.freeze_until`, features of the frozen layers are computed once, and kept in the folder until the run is
    finished, unless what comes before them changes in every epoch. `on_features` is called meanwhile with the number of
    samples done and that of all.

    Raises `CallError` if `out` holds other files or a run of another configuration, if the data sets do not match the
    model, if no label is known, or for a batch of one sample that batch normalization cannot take; `JobError` if the
    loss diverges.
    """
    train_ds, val_ds = as_latents(train_ds), None if val_ds is None else as_latents(val_ds)
    run = RunFolder(out)
    device = choose_device(device)
    precision = choose_precision(config.precision, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        is_seeded = not isinstance(model, LatentClassifier)
        if not isinstance(model, LatentClassifier):
            seed_torch(config.seed)
            model = model()
        train_ds, val_ds = trainable(model, train_ds), None if val_ds is None else trainable(model, val_ds)
        require_variety(train_ds)
        loader = FeatureLoader(
            train_ds,
            min(config.batch_size, len(train_ds)),
            device=device,
            shuffle=True,
            drop_last=True,
            seed=config.seed,
            residency=residency,
            views="random" if train_ds.num_views > 1 else None,
            crop=model.config.latent_shape[1:] if train_ds.layout.ragged else None,
            sampling=config.sampling,
        )
        loss, mixing = build_loss(model, train_ds, config), build_mixing(model, config, loader)
        freezing = build_freezing(model, config)
        _require_variance(model, loader.batch_size)
        settings = run_config(model, loader, val_ds, config, is_seeded=is_seeded, device=device, precision=precision)
        run.claim(settings, resume=resume)
        if run.is_finished:
            return run.load_record(METRICS[model.config.label_kind])
        keep_codec(run, train_ds)
        model.augmentation = build_augmentation(model, config.augment)
        model.spectrograms = build_cache(model, loader)
        model.mixing = mixing
        step = ClassifierStep(model, loss, precision, device)
        freeze = None if freezing is None else freezing.before_epoch(loader)

        def before_epoch(epoch: int) -> None:
            if mixing is not None:
                mixing.active = mixes_in(config, epoch)
            if freeze is not None:
                freeze(epoch)

        loop = TrainingLoop(
            model,
            step,
            loader,
            config,
            device=device,
            weights_of=LatentClassifier.saved_weights,
            threads=threads,
            progress=progress,
            before_epoch=before_epoch,
            evaluate=None if val_ds is None else lambda: evaluate(model, val_ds).figures(),
        )
        if freezing is not None:
            before_epoch(0)
            keep_features(model, loader, freezing, config, run, precision, progress=on_features)
        run_epochs(loop, run)
        model.spectrograms = None  # frees their memory
    with torch_threads(loop.threads):
        environment = describe_environment(device, precision, ("timm",))
        metrics = write_reports(model, val_ds, run, loop.history.epochs, environment)
    return finish_run(loop, run, metrics=metrics, environment=environment)


def _require_variance(model: LatentClassifier, batch_size: int) -> None:
    """Raise `CallError` if batch normalization would see a single value of each channel, which has no variance."""
    if batch_size > 1:
        return
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.train()(torch.full((1, *model.config.latent_shape), 128, dtype=torch.uint8, device=device))
    except ValueError as error:
        raise CallError(
            f"batch_size is 1, with which {model.config.name} cannot train on a grid of {model.config.grid} pixels: "
            f"its batch normalization needs several values ({first_line(error)}); choose a batch size of at least 2"
        ) from error
    finally:
        model.train(was_training)
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
