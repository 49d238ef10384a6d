"""Compares training on latents and on pixels of the same images, with the same backbone and recipe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifiers import LatentClassifier, Metrics, TrainConfig, create_model, load_classifier, train
from classifiers.evaluation.predictions import classify
from classifiers.models.backbones import resolve_model
from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import Source, open_source
from datasets_prep.sources.core.splits import holdout
from experiments.comparison.conditions import COLORS, Condition, parse_condition
from experiments.comparison.differences import paired_difference
from experiments.comparison.outcome import (
    RESULTS_NAME,
    ConditionOutcome,
    Outcome,
    describe,
    merge_environments,
    save_outcome,
)
from experiments.report.table import PLOT_NAME, TABLE_NAME, write_report
from walloc_cdl.addresses import local_path
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.codec.fit.synthesis import available_block_sizes
from walloc_cdl.confinement import confined, require_no_links
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names, remove_temporaries
from walloc_cdl.planes.rows import planes_for_bytes, row_bytes
from walloc_cdl.threads import require_threads, torch_threads
from walloc_cdl.training import RunFolder

HOLDOUT_FRACTION = 0.25
"""Fraction of the samples that is held out for testing if the source has no test split."""
TEST_SPLITS = ("test", "validation", "valid", "val")
OUTPUT_NAMES = {"latents", "runs", RESULTS_NAME, TABLE_NAME, PLOT_NAME}


@dataclass(frozen=True)
class CompareConfig:
    """Settings of a comparison."""

    source: str
    conditions: tuple[str, ...] = ("pixels-64", "latents-16x")
    model: str = "resnet18"
    size: int = 256
    num_seeds: int = 3
    pretrained: bool | Path = False
    """Whether to start from published weights, or a safetensors file of such weights."""
    holdout_seed: int = 0
    """Seed of the test split of a source that has none; the same for every training seed."""
    limit: int | None = None
    """Only this number of samples of each split, see `datasets_prep.sources.core.limits`; None takes all."""
    workers: int | None = None
    threads: int | None = None
    """Number of torch's threads for all runs; by default that of the finished runs, or the one that is fastest when the
    first run begins."""
    training: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Progress:
    """The progress of a comparison."""

    phase: str
    done: int
    total: int
    note: str = ""
    """A short text to show, or an empty one."""


Reporter = Callable[[Progress], None]


def compare(config: CompareConfig, out: Path, *, progress: Reporter | None = None) -> Outcome:
    """Prepare every condition, train every seed, and write results, table and plot to `out`.

    The same call resumes an interrupted comparison: finished data sets and runs are reused.
    Raises `CallError` for invalid settings before anything is written, and for a model that does not
    support one of the conditions before any model is trained.
    """
    out = local_path(out)
    comparison = _Comparison(config, out, progress or (lambda state: None))
    with confined(out):
        return _compare(comparison, config, out)


def _compare(comparison: _Comparison, config: CompareConfig, out: Path) -> Outcome:
    """Carry out `compare` in a folder that has no links."""
    comparison.prepare()
    comparison.require_models()
    runs: dict[str, list[_Run]] = {condition.name: [] for condition in comparison.conditions}
    # All conditions are trained seed by seed, so that a drift of the machine's speed affects them equally.
    for seed in range(config.num_seeds):
        for condition in comparison.conditions:
            runs[condition.name].append(comparison.train(condition, seed))
    outcome = comparison.outcome(runs)
    remove_temporaries(out)
    save_outcome(outcome, out)
    write_report(outcome, out)
    return outcome


@dataclass(frozen=True, eq=False)
class _Run:
    """One trained model, evaluated on the test split."""

    record: dict[str, Any]
    answers: np.ndarray
    """For the N test samples that have a label: the probabilities, float64 (N, 2), or, of more than two classes, the
    predicted classes, int64 (N,)."""
    grid: int
    num_parameters: int


class _Comparison:
    """The checked settings of a comparison, and its steps."""

    def __init__(self, config: CompareConfig, out: Path, notify: Reporter) -> None:
        resolve_model(config.model)
        require_threads(config.threads)
        if config.num_seeds < 1:
            raise CallError(f"num_seeds is {config.num_seeds}; it must be at least 1, and 2 for an interval")
        _require_output(out)
        self.config, self.out, self.notify = config, out, notify
        self.preparation = PrepareConfig(
            size=config.size, workers=config.workers, limit=config.limit, seed=config.holdout_seed
        )
        source = open_source(config.source)
        _require_images(source)
        self.source, self.test_split = _with_test_split(source, config.holdout_seed)
        self.conditions = _parse_conditions(config, self.source)
        self.threads = self._recorded_threads() or config.threads

    def prepare(self) -> None:
        """Encode the source once with each codec, with as many bit planes as the largest of its conditions reads."""
        for name in dict.fromkeys(condition.storage.codec for condition in self.conditions):
            notify = _phase_notifier(self.notify, f"prepare {name}")
            prepare(
                self.source,
                self._largest_codec(name),
                self._latents_folder(name),
                self.preparation,
                progress=lambda state, notify=notify: notify(state.done, state.total, state.note),
            )

    def _largest_codec(self, name: str) -> Codec:
        """Return the codec with as many bit planes as its conditions read, all if one of them reads whole rows."""
        codec = load_codec(name)
        budgets = [condition.storage.num_bytes for condition in self.conditions if condition.storage.codec == name]
        if None in budgets:
            return codec
        grid = codec.latent_shape((codec.source_channels, self.config.size, self.config.size))[1:]
        return codec.with_planes(planes_for_bytes(codec.spec, grid, max(filter(None, budgets))))

    def require_models(self) -> None:
        """Raise `CallError` unless the model can be built for all conditions."""
        with torch.random.fork_rng(devices=[]):
            for condition in self.conditions:
                self._create_model(condition)

    def train(self, condition: Condition, seed: int) -> _Run:
        """Train one condition with one seed, or reuse the finished run, and evaluate it on the test split."""
        notify = _phase_notifier(self.notify, f"{condition.name}, seed {seed}")
        folder = self._run_folder(condition, seed)
        if RunFolder(folder).is_finished:
            notify(0, 0, "trained already")
        test_set = self._open(condition, self.test_split)
        record = train(
            # `train` seeds the global generator before this call, so the backbone is the same in all conditions.
            lambda: self._create_model(condition),
            self._open(condition, "train"),
            test_set,
            dataclasses.replace(self.config.training, seed=seed),
            folder,
            threads=self.threads,
            progress=lambda state: notify(state.samples_done, state.samples_total),
        )
        if self.threads is None:
            self.threads = record.environment["threads"]
            notify(0, 0, f"{self.threads} of torch's threads for all runs")
        model = load_classifier(folder)
        with torch_threads(self.threads):
            answers = classify(model, test_set)
        kept = answers.scores.probabilities if model.config.num_classes == 2 else answers.predicted
        return _Run(
            record.to_json(),
            kept[answers.labels >= 0],
            model.config.grid,
            sum(parameter.numel() for parameter in model.parameters()),
        )

    def outcome(self, runs: dict[str, list[_Run]]) -> Outcome:
        """Summarize the runs of all conditions, given seed by seed."""
        config = self.config
        test_set = self._open(self.conditions[0], self.test_split)
        labels = test_set.labels[test_set.labels >= 0]
        metric = "auc" if test_set.num_classes == 2 and len(np.unique(labels)) == 2 else "accuracy"
        outcomes = [self._condition_outcome(condition, runs[condition.name]) for condition in self.conditions]
        answers = {name: [run.answers for run in seeds] for name, seeds in runs.items()}
        differences = [
            paired_difference(
                (condition.name, answers[condition.name]),
                (baseline.name, answers[baseline.name]),
                labels,
                metric,
            )
            for condition, baseline in matched_pairs(outcomes)
        ]
        return Outcome(
            source=self.source.name,
            size=config.size,
            model=config.model,
            num_train=len(self._open(self.conditions[0], "train")),
            num_test=len(labels),
            seeds=list(range(config.num_seeds)),
            metric=metric,
            conditions=outcomes,
            differences=differences,
            sentence=describe(self.source.name, config.model, metric, outcomes, differences),
            environment=merge_environments([run for outcome in outcomes for run in outcome.runs]),
        )

    def _condition_outcome(self, condition: Condition, runs: list[_Run]) -> ConditionOutcome:
        dataset = self._open(condition, "train")
        return ConditionOutcome(
            name=condition.name,
            codec=condition.storage.codec,
            stem=condition.stem,
            grid=runs[0].grid,
            values_per_sample=int(np.prod(dataset.latent_shape)),
            bytes_per_sample=row_bytes(dataset.spec, dataset.latent_shape[1:]),
            num_parameters=runs[0].num_parameters,
            runs=[run.record for run in runs],
        )

    def _create_model(self, condition: Condition) -> LatentClassifier:
        return create_model(
            self.config.model,
            self._open(condition, "train"),
            stem=condition.stem,
            grid=condition.grid,
            pretrained=self.config.pretrained,
        )

    def _recorded_threads(self) -> int | None:
        """Return the number of threads of the finished runs, which the others must have, too; None without one."""
        for seed in range(self.config.num_seeds):
            for condition in self.conditions:
                run = RunFolder(self._run_folder(condition, seed))
                if run.is_finished:
                    found = run.load_record(Metrics).environment["threads"]
                    if self.config.threads not in (None, found):
                        raise CallError(
                            f"the runs in {self.out} were trained with {found} threads, but threads is "
                            f"{self.config.threads}, which gives other weights; omit it, or name another folder"
                        )
                    return found
        return None

    def _run_folder(self, condition: Condition, seed: int) -> Path:
        return self.out / "runs" / _file_name(condition.name) / f"seed-{seed}"

    def _open(self, condition: Condition, split: str) -> LatentDataset:
        storage = condition.storage
        return open_latents(self._latents_folder(storage.codec), split, bytes=storage.num_bytes)

    def _latents_folder(self, codec: str) -> Path:
        return self.out / "latents" / _file_name(codec)


def _phase_notifier(notify: Reporter, phase: str) -> Callable[..., None]:
    """Returns a function of (done, total, note) that reports the progress of one phase."""
    return lambda done, total, note="": notify(Progress(phase, done, total, note))


def _file_name(text: str) -> str:
    """Returns a folder name for a condition or a codec, whose name may be a path or have a colon."""
    return re.sub(r"[^\w.@-]+", "_", text)


def _require_output(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise CallError(f"{out} is a file; name a folder for the comparison")
    if foreign := foreign_names(out, OUTPUT_NAMES):
        raise CallError(f"{out} holds other files ({foreign[0]}); name a new folder for the comparison")
    require_no_links(out)


def _require_images(source: Source) -> None:
    if source.kind != "image":
        samples = {"audio": "sound", "array": "arrays of many channels"}[source.kind]
        raise CallError(
            f"{source.name} holds {samples}, but comparisons are of images, whose resolution is reduced for the "
            "baseline; give a source of images, "
            + ("or use `cdl crossval`" if source.kind == "audio" else "or encode this one with `cdl prepare`")
        )


def _with_test_split(source: Source, seed: int) -> tuple[Source, str]:
    if "train" not in source.split_names:
        raise CallError(
            f"{source.name} has no split `train`, only {', '.join(source.split_names)}; give a source that has one"
        )
    if not source.class_names or len(source.class_names) < 2:
        reasons = "".join(f"; {note}" for note in source.notes)
        raise CallError(f"{source.name} has fewer than two classes; give a source with labels{reasons}")
    for split in TEST_SPLITS:
        if split in source.split_names and (source.listing.splits[split].labels >= 0).any():
            return source, split
    name = next(name for name in ("test", "held_out") if name not in source.split_names)
    return holdout(source, HOLDOUT_FRACTION, seed, into=name), name


def _parse_conditions(config: CompareConfig, source: Source) -> list[Condition]:
    if not config.conditions:
        raise CallError("no conditions; give at least one, such as pixels-64,latents-16x")
    if len(set(config.conditions)) != len(config.conditions):
        raise CallError(f"conditions {', '.join(config.conditions)} contain duplicates; give each once")
    channels = source.channels or 3
    if channels not in COLORS:
        raise CallError(f"{source.name} has {channels} channels; comparisons need gray or RGB images")
    conditions = [parse_condition(text, size=config.size, channels=channels) for text in config.conditions]
    if config.training.augment != PRESETS["none"]:
        for condition in conditions:
            if condition.stem != "synthesis":
                raise CallError(
                    f"condition {condition.name!r} shows no pixels, which are augmented; omit it, or the augmentation"
                )
    for condition in conditions:  # refuse unknown codecs, sizes, grids and budgets before any data set is prepared
        codec = load_codec(condition.storage.codec)
        grid = codec.latent_shape((channels, config.size, config.size))[1:]
        if (num_bytes := condition.storage.num_bytes) is not None:
            try:
                codec = codec.with_planes(planes_for_bytes(codec.spec, grid, num_bytes))
            except CallError as error:
                raise CallError(f"condition {condition.name!r}: {error}") from error
        _require_grid(condition, codec, grid[0])
    return conditions


def _require_grid(condition: Condition, codec: Codec, side: int) -> None:
    """Raise `CallError` for a grid for which the data set will have no synthesis."""
    offered = [side * block for block in available_block_sizes(codec)]
    if condition.grid is not None and condition.grid not in offered:
        raise CallError(
            f"condition {condition.name!r}: a grid of {condition.grid} pixels does not go with latents of height "
            f"{side}; choose one of {', '.join(map(str, offered))}"
        )


def matched_pairs(outcomes: list[ConditionOutcome]) -> list[tuple[ConditionOutcome, ConditionOutcome]]:
    """Returns each condition with its baselines that store as many bytes and have the same grid.

    Other pairs get no difference, since it would also reflect the unequal number of bytes or operations.
    """
    return [
        (outcome, baseline)
        for outcome in outcomes
        if not outcome.kind.is_baseline
        for baseline in outcomes
        if outcome.kind.name in baseline.kind.is_baseline_for
        and (baseline.bytes_per_sample, baseline.grid) == (outcome.bytes_per_sample, outcome.grid)
    ]
