"""The honest comparison: the same backbone and recipe on latents and on pixels of the same images."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifiers import TrainConfig, create_model, load_classifier, predict, train
from classifiers.backbones import require_model
from datasets_prep.job import PrepareConfig, prepare
from datasets_prep.sources import Source, open_source
from datasets_prep.splits import holdout
from experiments.conditions import COLORS, Condition, parse_condition
from experiments.differences import paired_difference
from experiments.outcome import RESULTS_NAME, ConditionOutcome, Outcome, describe, save_outcome
from experiments.report import PLOT_NAME, TABLE_NAME, write_report
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.errors import CallError

HOLDOUT = 0.25
"""Share of a source without splits of its own that is held out for testing."""
TEST_SPLITS = ("test", "validation", "valid", "val")
OURS = {"latents", "runs", RESULTS_NAME, TABLE_NAME, PLOT_NAME}


@dataclass(frozen=True)
class CompareConfig:
    """What is compared with what, and how."""

    source: str
    conditions: tuple[str, ...] = ("pixels-64", "latents-16x")
    model: str = "resnet18"
    size: int = 256
    num_seeds: int = 3
    pretrained: bool = False
    holdout_seed: int = 0
    """Of the split that is made where a source has none; the same for every training seed."""
    workers: int | None = None
    training: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Progress:
    """Where a comparison stands."""

    phase: str
    done: int
    total: int


Reporter = Callable[[Progress], None]


def compare(config: CompareConfig, out: Path, *, progress: Reporter | None = None) -> Outcome:
    """Prepare every condition, train every seed, and write results, table and plot into `out`.

    The same call again goes on where it stopped: finished data sets and runs are used as they are.
    Raises `CallError` for a call that cannot work before anything is written.
    """
    notify = progress or (lambda state: None)
    require_model(config.model)
    if config.num_seeds < 1:
        raise CallError(f"{config.num_seeds} seeds; at least one is needed, and two for an interval")
    _require_output(out)
    source, test_split = _with_test_split(open_source(config.source), config.holdout_seed)
    conditions = _conditions(config, source)
    datasets = {
        condition.codec: _prepare(source, condition, config, out, notify)
        for condition in {condition.codec: condition for condition in conditions}.values()
    }
    runs: dict[str, list[_Run]] = {condition.name: [] for condition in conditions}
    # Seed by seed over all conditions, so that a drift of the machine's speed meets all alike.
    for seed in range(config.num_seeds):
        for condition in conditions:
            phase = f"{condition.name}, seed {seed}"
            runs[condition.name].append(
                _run(condition, seed, datasets[condition.codec], test_split, config, out, notify, phase)
            )
    outcome = _outcome(config, source, conditions, datasets, test_split, runs)
    save_outcome(outcome, out)
    write_report(outcome, out)
    return outcome


@dataclass(frozen=True)
class _Run:
    """One trained model, judged on the test split."""

    record: dict[str, Any]
    probabilities: np.ndarray
    labels: np.ndarray
    grid: int
    num_parameters: int


def _require_output(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise CallError(f"{out} is a file; name a folder for the comparison")
    foreign = sorted({path.name for path in out.iterdir()} - OURS) if out.is_dir() else []
    if foreign:
        raise CallError(f"{out} holds something else ({foreign[0]}); name a new folder for the comparison")


def _with_test_split(source: Source, seed: int) -> tuple[Source, str]:
    if "train" not in source.split_names:
        raise CallError(f"{source.name} has no split `train`; it has {', '.join(source.split_names)}")
    if not source.class_names or len(source.class_names) < 2:
        raise CallError(f"{source.name} has no classes to tell apart; give a source with labels")
    for split in TEST_SPLITS:
        if split in source.split_names:
            return source, split
    return holdout(source, HOLDOUT, seed), "test"


def _conditions(config: CompareConfig, source: Source) -> list[Condition]:
    if len(set(config.conditions)) != len(config.conditions) or not config.conditions:
        raise CallError(f"conditions {', '.join(config.conditions) or 'missing'}: give each once, at least one")
    channels = source.channels or 3
    if channels not in COLORS:
        raise CallError(f"{source.name} has {channels} channels; comparisons take gray or RGB")
    conditions = [parse_condition(text, size=config.size, channels=channels) for text in config.conditions]
    for condition in conditions:  # refuse unknown codecs and wrong sizes before the first is prepared
        condition.load_codec().latent_shape((channels, config.size, config.size))
    return conditions


def _prepare(source: Source, condition: Condition, config: CompareConfig, out: Path, notify: Reporter) -> Path:
    folder = out / "latents" / re.sub(r"[^\w.-]+", "_", condition.codec)
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = PrepareConfig(size=config.size, workers=config.workers)
    phase = f"prepare {condition.codec}"
    prepare(
        source,
        condition.load_codec(),
        folder,
        settings,
        progress=lambda state: notify(Progress(phase, state.done, state.total)),
    )
    return folder


def _run(
    condition: Condition,
    seed: int,
    folder: Path,
    test_split: str,
    config: CompareConfig,
    out: Path,
    notify: Reporter,
    phase: str,
) -> _Run:
    train_set, test_set = open_latents(folder, "train"), open_latents(folder, test_split)
    run_folder = out / "runs" / re.sub(r"[^\w.@-]+", "_", condition.name) / f"seed-{seed}"
    run_folder.parent.mkdir(parents=True, exist_ok=True)

    def build() -> torch.nn.Module:
        # The global generator is seeded by `train` before this is called: the same backbone in all conditions.
        return create_model(
            config.model, train_set, stem=condition.stem, grid=condition.grid, pretrained=config.pretrained
        )

    training = dataclasses.replace(config.training, seed=seed)
    record = train(
        build,
        train_set,
        test_set,
        training,
        run_folder,
        progress=lambda state: notify(Progress(phase, state.samples_done, state.samples_total)),
    )
    model = load_classifier(run_folder)
    predictions = predict(model, test_set)
    return _Run(
        record.to_json(),
        predictions.probabilities,
        predictions.labels,
        model.config.grid,
        sum(parameter.numel() for parameter in model.parameters()),
    )


def _outcome(
    config: CompareConfig,
    source: Source,
    conditions: list[Condition],
    datasets: dict[str, Path],
    test_split: str,
    runs: dict[str, list[_Run]],
) -> Outcome:
    first = open_latents(datasets[conditions[0].codec], test_split)
    metric = "auc" if first.num_classes == 2 else "accuracy"
    outcomes = [
        _condition_outcome(condition, datasets[condition.codec], runs[condition.name]) for condition in conditions
    ]
    labels = runs[conditions[0].name][0].labels
    probabilities = {name: [run.probabilities for run in seeds] for name, seeds in runs.items()}
    differences = [
        paired_difference(
            (condition.name, probabilities[condition.name]),
            (baseline.name, probabilities[baseline.name]),
            labels,
            metric,
        )
        for condition, baseline in _pairs(conditions)
    ]
    return Outcome(
        source=source.name,
        size=config.size,
        model=config.model,
        num_train=len(open_latents(datasets[conditions[0].codec], "train")),
        num_test=len(labels),
        seeds=list(range(config.num_seeds)),
        metric=metric,
        conditions=outcomes,
        differences=differences,
        sentence=describe(source.name, config.model, metric, outcomes, differences),
        environment={**outcomes[0].runs[0]["environment"], "commit": outcomes[0].runs[0]["commit"]},
    )


def _pairs(conditions: list[Condition]) -> list[tuple[Condition, Condition]]:
    """Each latent condition with the pixels on the same grid, else with the first pixels."""
    baselines = [condition for condition in conditions if condition.is_pixels]
    pairs = []
    for condition in conditions:
        if condition.is_pixels or not baselines:
            continue
        same_grid = [baseline for baseline in baselines if baseline.grid == condition.grid]
        pairs.append((condition, (same_grid or baselines)[0]))
    return pairs


def _condition_outcome(condition: Condition, folder: Path, runs: list[_Run]) -> ConditionOutcome:
    dataset: LatentDataset = open_latents(folder, "train")
    num_bytes = sum(shard.num_bytes for shard in dataset.manifest.shards)
    num_samples = sum(shard.num_samples for shard in dataset.manifest.shards)
    return ConditionOutcome(
        name=condition.name,
        codec=condition.codec,
        stem=condition.stem,
        grid=runs[0].grid,
        values_per_sample=int(np.prod(dataset.latent_shape)),
        bytes_per_sample=num_bytes / num_samples,
        num_parameters=runs[0].num_parameters,
        runs=[run.record for run in runs],
    )
