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
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import Source, open_source
from datasets_prep.sources.core.splits import holdout
from experiments.comparison.answer import DEFAULT_MARGIN, find_answer
from experiments.comparison.conditions import DEFAULT_GRID, Condition, Setting, default_conditions, parse_condition
from experiments.comparison.differences import METRICS
from experiments.comparison.results import (
    BreakEven,
    ConditionResult,
    Costs,
    LatentStatistics,
    PrefixQuality,
    Results,
    SourceFacts,
    save_results,
)
from experiments.comparison.sources import TEST_SPLITS, file_bytes, output_folder, require_images
from experiments.costs.break_even import BreakEvenConfig, measure_break_even
from experiments.costs.condition_costs import measure_costs
from experiments.report.write import write_report
from experiments.training.summarize import (
    TestPictures,
    TrainedRun,
    condition_result,
    differences,
    latent_statistics,
)
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.codec.fit.synthesis import available_block_sizes
from walloc_cdl.confinement import confined
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.files import remove_temporaries
from walloc_cdl.planes.rows import planes_for_bytes, row_bytes
from walloc_cdl.threads import require_threads, torch_threads
from walloc_cdl.training import RunFolder

HOLDOUT_FRACTION = 0.25
"""Fraction of the samples that is held out for testing if the source has no test split."""
OUTPUT_NAMES = ("latents", "runs")


@dataclass(frozen=True)
class CompareConfig:
    """Settings of a comparison."""

    source: str
    conditions: tuple[str, ...] | None = None
    """None for the default curve, see `default_conditions`."""
    model: str = "resnet18"
    grid: int | None = None
    """Side in pixels of the models' input, for conditions that name none. None is 64 for the default curve, the model's
    own size with pretrained weights, and otherwise as many pixel values as are stored."""
    codec: str | None = None
    """The codec of `latents-BYTES`; None for the shipped one."""
    margin: float = DEFAULT_MARGIN
    """How far below the full images is near enough."""
    costs: bool = True
    """Whether rates, memory and the break-even are measured when all runs are done."""
    command: str = ""
    """For the report."""
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


def compare(config: CompareConfig, out: Path, *, progress: Reporter | None = None) -> Results:
    """Prepare every condition, train every seed, and write results and report to `out`.

    The same call resumes an interrupted comparison: finished data sets and runs are reused.
    Raises `CallError` for invalid settings before anything is written, and for a model that does not
    support one of the conditions before any model is trained.
    """
    out = output_folder(out, OUTPUT_NAMES)
    comparison = _Comparison(config, out, progress or (lambda state: None))
    with confined(out):
        return _compare(comparison, config, out)


def _compare(comparison: _Comparison, config: CompareConfig, out: Path) -> Results:
    """Carry out `compare` in a folder that has no links."""
    comparison.prepare()
    comparison.require_models()
    runs: dict[str, list[TrainedRun]] = {condition.name: [] for condition in comparison.conditions}
    # All conditions are trained seed by seed, so that a drift of the machine's speed affects them equally.
    for seed in range(config.num_seeds):
        for condition in comparison.conditions:
            runs[condition.name].append(comparison.train(condition, seed))
    results = comparison.results(runs)
    remove_temporaries(out)
    save_results(results, out)
    write_report(results, out)
    return results


class _Comparison:
    """The checked settings of a comparison, and its steps."""

    def __init__(self, config: CompareConfig, out: Path, notify: Reporter) -> None:
        resolve_model(config.model)
        require_threads(config.threads)
        if config.num_seeds < 1:
            raise CallError(f"num_seeds is {config.num_seeds}; it must be at least 1, and 2 for an interval")
        if not 0 <= config.margin < 1:
            raise CallError(f"margin is {config.margin:g}; it must be at least 0 and below 1, such as 0.01 for a point")
        if config.training.freeze_until is not None and not config.pretrained:
            raise CallError(
                f"layers before {config.training.freeze_until} are frozen, but without pretrained weights theirs are "
                "random; give --pretrained, or train all layers"
            )
        self.config, self.out, self.notify = config, out, notify
        self.preparation = PrepareConfig(
            size=config.size, workers=config.workers, limit=config.limit, seed=config.holdout_seed
        )
        source = open_source(config.source)
        require_images(source)
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

    def train(self, condition: Condition, seed: int) -> TrainedRun:
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
        known = answers.labels >= 0
        probabilities = answers.scores.probabilities[known, 1] if model.config.num_classes == 2 else None
        run = TrainedRun(f"seed {seed}", record.to_json(), 0.0, answers.predicted[known], probabilities)
        metric = self._metric(test_set)
        score = METRICS[metric](answers.labels[known], run.answers(metric), np.ones((1, int(known.sum()))))
        return dataclasses.replace(run, score=float(score[0]))

    def results(self, runs: dict[str, list[TrainedRun]]) -> Results:
        """Summarize the runs of all conditions, given seed by seed, and measure what each condition costs."""
        config, first = self.config, self.conditions[0]
        test_set, train_set = self._open(first, self.test_split), self._open(first, "train")
        metric, labels = self._metric(test_set), test_set.labels[test_set.labels >= 0]
        pictures = TestPictures(self.source, self.test_split, self._full_preparation(), test_set)
        outcomes = []
        models = {}
        for number, condition in enumerate(self.conditions):
            self.notify(Progress("costs and pictures", number, len(self.conditions)))
            model = load_classifier(self._run_folder(condition, 0))
            models[condition.name] = (model, self._open(condition, self.test_split))
            psnr = None if condition.storage.is_full else pictures.psnr_db(models[condition.name][1])
            costs = self._costs(condition, runs[condition.name])
            opened = self._open(condition, "train")
            outcomes.append(
                condition_result(condition, runs[condition.name], model, opened, metric, config.size, psnr, costs)
            )
        source = SourceFacts(
            name=self.source.name,
            size=config.size,
            channels=self.source.channels or 3,
            class_names=list(self.source.class_names or ()),
            num_train=len(train_set),
            num_test=len(labels),
            test=f"split {self.test_split}",
            file_bytes=file_bytes(self.source, [("train", index) for index in range(self.source.num_samples("train"))]),
            keys=list(pictures.keys),
            labels=labels.tolist(),
        )
        answer = find_answer(
            outcomes, source.labels, metric, source=source.name, model=config.model, margin=config.margin
        )
        enough = next((each.condition for each in answer.sufficient if each.kind == "latents"), None)
        return Results(
            method="train",
            source=source,
            model=config.model,
            weights=self._weights_name(),
            metric=metric,
            matched_by="bytes",
            settings=self._settings(),
            command=config.command,
            conditions=outcomes,
            differences=differences(outcomes, runs, labels, metric),
            answer=answer,
            break_even=self._break_even(enough) if config.costs else [],
            samples=pictures.seen(outcomes, models),
            statistics=self._statistics(outcomes),
            environment=merge_environments([run.record for each in runs.values() for run in each]),
        )

    def _metric(self, test_set: LatentDataset) -> str:
        both = len(np.unique(test_set.labels[test_set.labels >= 0])) == 2
        return "auc" if test_set.num_classes == 2 and both else "accuracy"

    def _full_preparation(self) -> ImagePreparation:
        return ImagePreparation(self.source.channels or 3, self.config.size)

    def _weights_name(self) -> str | None:
        pretrained = self.config.pretrained
        return pretrained.name if isinstance(pretrained, Path) else "published" if pretrained else None

    def _settings(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        fields = dataclasses.asdict(self.config)
        fields |= {"conditions": [condition.name for condition in self.conditions], "threads": self.threads}
        fields |= {"training": self.config.training.to_json(), "pretrained": self._weights_name()}
        return {name: value for name, value in fields.items() if name != "command"}

    def _costs(self, condition: Condition, runs: list[TrainedRun]) -> Costs:
        rate = float(np.mean([run.record["images_per_s"] for run in runs]))
        train_set = self._open(condition, "train")
        num_samples = len(train_set) + len(self._open(condition, self.test_split))
        if not self.config.costs:
            total = num_samples * row_bytes(train_set.spec, train_set.latent_shape[1:])
            return Costs(total_bytes=total, train_images_per_s=rate)
        with torch.random.fork_rng(devices=[]), torch_threads(self.threads):
            model = self._create_model(condition)
            if self.config.training.augment != PRESETS["none"]:
                model.augmentation = PixelAugmentation(self.config.training.augment)
            size = self.config.training.batch_size
            costs = measure_costs(model, train_set, batch_size=size, num_samples=num_samples)
        return dataclasses.replace(costs, train_images_per_s=rate)

    def _break_even(self, name: str | None) -> list[BreakEven]:
        """Measure the break-even of the sufficient latents, or else of the largest ones; [] without any."""
        latents = [each for each in self.conditions if each.kind.name == "latents" and each.stem == "synthesis"]
        condition = next((each for each in latents if each.name == name), latents[-1] if latents else None)
        if condition is None:
            return []
        settings = BreakEvenConfig(
            condition.name,
            self.config.size,
            condition.storage.num_bytes,
            self.config.training.batch_size,
            workers=self.config.workers,
        )
        codec = self._largest_codec(condition.storage.codec or "")
        with torch.random.fork_rng(devices=[]), torch_threads(self.threads):
            found = measure_break_even(
                self.source,
                codec,
                lambda dataset: self._build(condition, dataset),
                settings,
                on_phase=lambda phase, done, total: self.notify(Progress(f"break-even, {phase}", done, total)),
            )
        return [found]

    def _statistics(self, outcomes: list[ConditionResult]) -> list[LatentStatistics]:
        """Return the statistics of each codec of latents at its largest budget, with the PSNR of its prefixes."""
        found = []
        for codec in dict.fromkeys(each.storage.codec for each in self.conditions if each.kind.name == "latents"):
            names = [each.name for each in self.conditions if each.storage.codec == codec]
            own = [each for each in outcomes if each.name in names]
            pairs = sorted({(int(each.bytes_per_sample), float(each.psnr_db or 0)) for each in own})
            prefixes = [PrefixQuality(*pair) for pair in pairs]
            largest = max(own, key=lambda each: each.bytes_per_sample)
            condition = next(each for each in self.conditions if each.name == largest.name)
            found.append(latent_statistics(self._open(condition, "train"), prefixes))
        return found

    def _create_model(self, condition: Condition) -> LatentClassifier:
        return self._build(condition, self._open(condition, "train"))

    def _build(self, condition: Condition, dataset: LatentDataset) -> LatentClassifier:
        own_size = bool(self.config.pretrained) and condition.grid is None and condition.stem == "synthesis"
        return create_model(
            self.config.model,
            dataset,
            stem=condition.stem,
            grid=condition.grid,
            pretrained=self.config.pretrained,
            crop_pct=1.0 if own_size else None,  # all conditions show the whole image
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


def merge_environments(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge commit and environment of all runs: a value that differs between runs becomes a list of its values.

    >>> merge_environments([{"commit": "a", "environment": {}}, {"commit": "b", "environment": {}}])
    {'commit': ['a', 'b']}
    """
    merged: dict[str, Any] = {}
    for record in records:
        for name, value in {**record["environment"], "commit": record["commit"]}.items():
            values = merged.setdefault(name, [])
            if value not in values:
                values.append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in merged.items()}


def _with_test_split(source: Source, seed: int) -> tuple[Source, str]:
    if "train" not in source.split_names:
        raise CallError(
            f"{source.name} has no split `train`, only {', '.join(source.split_names)}; give a source that has one"
        )
    for split in TEST_SPLITS:
        if split in source.split_names and (source.listing.splits[split].labels >= 0).any():
            return source, split
    name = next(name for name in ("test", "held_out") if name not in source.split_names)
    return holdout(source, HOLDOUT_FRACTION, seed, into=name), name


def _parse_conditions(config: CompareConfig, source: Source) -> list[Condition]:
    channels, size = source.channels or 3, config.size
    grid = config.grid or (DEFAULT_GRID if config.conditions is None and not config.pretrained else None)
    texts = config.conditions
    if texts is None:
        texts = default_conditions(size, channels, largest_side=grid or size)
    if not texts:
        raise CallError("no conditions; give at least one, such as pixels-64,latents-16x")
    if len(set(texts)) != len(texts):
        raise CallError(f"conditions {', '.join(texts)} contain duplicates; give each once")
    setting = Setting(size, channels, config.codec, grid)
    conditions = [parse_condition(text, setting) for text in texts]
    for condition in conditions:
        if not condition.kind.can_train:
            raise CallError(
                f"condition {condition.name!r}: no model is trained on {condition.kind.title}, which have to be "
                "decoded in every step; omit it, or use --probe"
            )
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
