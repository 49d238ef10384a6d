"""`train`: trains a classifier on a data set, and returns the `RunRecord` of the run's folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from classifiers.evaluation.kinds import MAIN_METRICS, METRICS, AnyMetrics, main_figures, metric_names
from classifiers.evaluation.predictions import Answers, Predictions, assess
from classifiers.models.classifier import LatentClassifier
from classifiers.runs.augmentation import build_augmentation, build_cache, set_latent_transforms
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
from walloc_cdl.data import LatentDataset, LatentLoader, as_latents
from walloc_cdl.errors import CallError, first_line, unknown_name
from walloc_cdl.files import write_atomic
from walloc_cdl.threads import torch_threads
from walloc_cdl.training import (
    Processes,
    Progress,
    RunFolder,
    RunRecord,
    SaveInterval,
    Trackers,
    TrainingLoop,
    TrainProgress,
    build_optimizer,
    build_schedule,
    choose_precision,
    compiled,
    describe_environment,
    finish_run,
    require_backend,
    run_epochs,
    seed_torch,
)

__all__ = ["Progress", "RunRecord", "SaveInterval", "TrainProgress", "train"]


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
    save: SaveInterval | None = None,
    trackers: Sequence[str] = (),
    recipe: str | None = None,
    on_features: OnFeatures | None = None,
) -> RunRecord[AnyMetrics]:
    """Train a classifier, write the run to the folder `out`, and evaluate the averaged weights on `val_ds`.

    `model` is a classifier, which has the averaged weights afterwards, or a function that builds one, whose initial
    weights then follow from `config.seed`. The state is saved after every epoch, and within epochs as `save` says, by
    default every ten minutes: the same call resumes an interrupted run, and the final weights are exactly those of an
    uninterrupted run (on the same machine; CUDA kernels may differ in the last bit). For a finished run the record is
    returned; with `resume` false an earlier run in `out` is discarded. Torch's global generators keep their state.

    The folder also has `classes.csv`, the figures of each class, or of each target of regression, on `val_ds`,
    `index.html`, a page with curves, worst mistakes, confusion matrix and calibration; and `codec/`, that of the data
    set, if it has one, so that files can be classified without the data set.

    The last bits of the weights depend on the number of torch's threads as well. By default, a short trial on a CPU
    chooses the number that is fastest when the run begins, at most the one that is set; the record has it as
    `environment["threads"]`, and a resumed run keeps it. `threads` repeats a run with the same number.

    In each process of `torchrun` or `accelerate launch`, the same call trains the same model: a process takes its slice
    of each batch, and the first one evaluates and writes. `trackers` are names of accelerate's trackers, such as
    `tensorboard`, whose files go to `logs` in the folder. `recipe` is the text of `recipe.toml`.

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
    processes = Processes.open(device)
    device = processes.device
    precision = choose_precision(config.precision, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        is_seeded = not isinstance(model, LatentClassifier)
        if not isinstance(model, LatentClassifier):
            seed_torch(config.seed)
            model = model()
        train_ds, val_ds = trainable(model, train_ds), None if val_ds is None else trainable(model, val_ds)
        require_variety(train_ds)
        _require_evaluation(model, config, val_ds)
        batch_size = min(config.batch_size, len(train_ds))
        processes.require_batch(batch_size)
        loader = FeatureLoader(
            train_ds,
            batch_size,
            device=device,
            shuffle=True,
            drop_last=True,
            seed=config.seed,
            residency=residency,
            views="random" if train_ds.num_views > 1 else None,
            rank=processes.rank,
            world_size=processes.world_size,
            crop=model.config.latent_shape[1:] if train_ds.layout.ragged else None,
            sampling=config.sampling,
        )
        loss, mixing = build_loss(model, train_ds, config), build_mixing(model, config, loader)
        _require_variance(model, batch_size, processes.world_size)
        set_latent_transforms(model, train_ds, config.augment)
        freezing = build_freezing(model, config)
        settings = run_config(model, loader, val_ds, config, is_seeded=is_seeded, device=device, precision=precision)
        _require_settings(model, loader, config)
        tracked = Trackers(trackers)

        def claim() -> bool:
            run.claim(settings, resume=resume)
            if not run.is_finished:
                keep_codec(run, train_ds)
                if recipe is not None:
                    write_atomic(run.recipe_path, recipe.encode("utf-8"))
            return run.is_finished

        if processes.on_main(claim):
            return run.load_record(METRICS[model.config.label_kind])
        model.augmentation = build_augmentation(model, config.augment)
        model.spectrograms = build_cache(model, loader)
        model.mixing = mixing
        step = ClassifierStep(model, loss, precision, device)
        evaluated: dict[int, tuple[AnyMetrics, Answers | Predictions]] = {}  # that of the latest epoch alone

        def evaluate_epoch() -> dict[str, float]:
            assessed = assess(model, val_ds)
            evaluated.clear()
            evaluated[loop.epoch + 1] = assessed
            return main_figures(assessed[0])

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
            progress=progress if processes.is_main else None,
            evaluate=None if val_ds is None else evaluate_epoch,
            main_metric=MAIN_METRICS[model.config.label_kind],
            processes=processes,
            before_epoch=before_epoch,
        )
        if freezing is not None:
            before_epoch(0)
            keep_features(model, loader, freezing, config, run, precision, progress=on_features)
        if processes.is_main:
            tracked.start(run.logs_path, run.path.name, config.to_json())
        with compiled(model.backbone, config.torchcompile):
            run_epochs(loop, run, save=save, after_epoch=tracked.log_epoch)
        tracked.finish()
        model.spectrograms = None  # frees their memory

    def finish() -> RunRecord[AnyMetrics]:
        with torch_threads(loop.threads):
            assessed = evaluated.get(loop.result_epoch)
            if assessed is None and val_ds is not None:
                assessed = assess(model, val_ds)
            environment = describe_environment(device, precision, ("timm",))
            metrics = write_reports(model, val_ds, assessed, run, loop.history.epochs, environment)
        return finish_run(loop, run, metrics=metrics, environment=environment)

    return processes.on_main(finish)


def _require_settings(model: LatentClassifier, loader: LatentLoader, config: TrainConfig) -> None:
    """Raise `CallError` for settings that timm or torch refuse, before the run has a folder."""
    require_backend(config.torchcompile)
    updates_per_epoch = math.ceil(len(loader) / config.grad_accum_steps)
    build_schedule(build_optimizer(model, config), config, updates_per_epoch)


def _require_evaluation(model: LatentClassifier, config: TrainConfig, val_ds: LatentDataset | None) -> None:
    """Raise `CallError` if the best epoch is asked for, and nothing says which that is."""
    if config.eval_metric is not None:
        known = metric_names(model.config.label_kind)
        if config.eval_metric not in known:
            raise unknown_name("eval_metric", config.eval_metric, known, f"choose one of {', '.join(known)}")
    if val_ds is None and (config.patience is not None or config.keep == "best"):
        raise CallError(
            "patience and keep=best choose an epoch by its evaluation, but there is no split to evaluate on; give one, "
            "or omit them"
        )


def _require_variance(model: LatentClassifier, batch_size: int, num_processes: int) -> None:
    """Raise `CallError` if batch normalization would see a single value of each channel, which has no variance."""
    if batch_size // num_processes > 1:
        return
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.train()(torch.full((1, *model.config.latent_shape), 128, dtype=torch.uint8, device=device))
    except ValueError as error:
        shared = f" for {num_processes} processes" if num_processes > 1 else ""
        raise CallError(
            f"batch_size is {batch_size}{shared}, with which {model.config.name} cannot train on a grid of "
            f"{model.config.grid} pixels: its batch normalization needs several values ({first_line(error)}); choose a "
            f"batch size of at least {2 * num_processes}"
        ) from error
    finally:
        model.train(was_training)
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
