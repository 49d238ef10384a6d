"""Compares training on latents and on resampled waveforms of the same sounds, by cross-validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from classifiers import TrainConfig, create_model, load_classifier, train
from classifiers.evaluation.predictions import predict
from classifiers.models.backbones import resolve_model
from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import Source, open_source
from experiments.comparison.differences import paired_difference
from experiments.sound.conditions import SoundCondition, parse_sound_condition
from experiments.sound.folds import folds_of_keys
from experiments.sound.outcome import RESULTS_NAME, TABLE_NAME, FoldScore, SoundOutcome, SoundResult, save_sound_outcome
from walloc_cdl.addresses import local_path
from walloc_cdl.augment.config import SOUND_PRESETS
from walloc_cdl.codec import load_codec
from walloc_cdl.confinement import require_no_links
from walloc_cdl.data import LatentDataset, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names
from walloc_cdl.threads import require_threads
from walloc_cdl.training import RunFolder

SPLIT = "train"
OUTPUT_NAMES = {"latents", "runs", RESULTS_NAME, TABLE_NAME}


@dataclass(frozen=True)
class SoundCompareConfig:
    """Settings of a comparison of sound."""

    source: str
    folds: str
    """Regular expression, see `folds_of_keys`."""
    conditions: tuple[str, ...] = ("waves-16x", "latents-13780")
    model: str = "test_resnet"
    segment_s: float = 5.0
    num_seeds: int = 3
    workers: int | None = None
    threads: int | None = None
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            epochs=30, batch_size=32, lr=2e-3, smoothing=0.1, augment=SOUND_PRESETS["light"], val_interval=0
        )
    )


Reporter = Callable[[str, int, int], None]
"""Called with a phase, and the numbers (done, total) of its samples or steps."""


def compare_sounds(
    config: SoundCompareConfig, out: Path, *, finished_only: bool = False, progress: Reporter | None = None
) -> SoundOutcome:
    """Prepare the sounds once for each codec, train each condition on all folds but one, and write the results.

    The same call resumes an interrupted comparison. `finished_only` trains nothing and summarizes the finished runs.
    Raises `CallError` for invalid settings before anything is written.
    """
    resolve_model(config.model)
    require_threads(config.threads)
    if config.num_seeds < 1:
        raise CallError(f"num_seeds is {config.num_seeds}; it must be at least 1, and 2 for an interval")
    source, notify = open_source(config.source), progress or (lambda phase, done, total: None)
    channels = _require_sounds(source)
    folds_of_keys(
        source.listing.splits[SPLIT].keys, config.folds
    )  # segments have the keys of their clips, and a number
    comparison = _Comparison(config, local_path(out), channels, notify)
    if not finished_only:
        comparison.prepare(source)
    comparison.cut()
    answers: dict[str, list[np.ndarray]] = {condition.name: [] for condition in comparison.conditions}
    scores: dict[str, list[FoldScore]] = {condition.name: [] for condition in comparison.conditions}
    # Seed by seed, so that a comparison that is cut short has all conditions with as many seeds.
    for seed in range(config.num_seeds):
        predicted = {condition.name: np.full(comparison.num_samples, -1) for condition in comparison.conditions}
        complete = dict.fromkeys(predicted, True)
        for number, fold in enumerate(comparison.names):
            for condition in comparison.conditions:
                if finished_only and not RunFolder(comparison.run_folder(condition, fold, seed)).is_finished:
                    complete[condition.name] = False
                    continue
                found, score = comparison.train(condition, number, seed)
                predicted[condition.name][comparison.folds == number] = found
                scores[condition.name].append(score)
        for name, classes in predicted.items():
            if complete[name]:
                answers[name].append(classes)
    outcome = comparison.outcome(source.name, answers, scores)
    save_sound_outcome(outcome, comparison.out)
    return outcome


class _Comparison:
    """The checked settings of a comparison, and its steps."""

    def __init__(self, config: SoundCompareConfig, out: Path, channels: int, notify: Reporter) -> None:
        if not config.conditions or len(set(config.conditions)) != len(config.conditions):
            raise CallError(f"conditions {', '.join(config.conditions) or 'none'}; give at least one, and each once")
        self.config, self.out, self.notify = config, out, notify
        if out.exists() and (foreign := foreign_names(out, OUTPUT_NAMES)):
            raise CallError(f"{out} holds other files ({foreign[0]}); name a new folder for the comparison")
        require_no_links(out)
        self.conditions = [parse_sound_condition(text, channels) for text in config.conditions]
        self.codecs = list(dict.fromkeys(condition.codec for condition in self.conditions))
        self.folds, self.names, self.num_samples = np.zeros(0, np.int64), [], 0

    def prepare(self, source: Source) -> None:
        """Encode the source once with each codec."""
        preparation = PrepareConfig(segment_s=self.config.segment_s, workers=self.config.workers)
        for codec in self.codecs:
            prepare(
                source,
                load_codec(codec),
                self._latents_folder(codec),
                preparation,
                progress=lambda state, codec=codec: self.notify(f"prepare {codec}", state.done, state.total),
            )

    def cut(self) -> None:
        """Find the folds; raises `CallError` for sounds that differ between the codecs."""
        keys = {codec: (opened := self._open(codec)).keys(range(len(opened))) for codec in self.codecs}
        first = keys[self.codecs[0]]
        for codec, found in keys.items():
            if found != first:
                raise CallError(
                    f"{codec} has other segments than {self.codecs[0]}; choose a --segment of whole latents of both"
                )
        self.folds, self.names = folds_of_keys(first, self.config.folds)
        self.num_samples = len(first)

    def train(self, condition: SoundCondition, number: int, seed: int) -> tuple[np.ndarray, FoldScore]:
        """Train on all folds but one, or reuse the finished run; returns the classes predicted for that fold."""
        config, fold = self.config, self.names[number]
        dataset = self._open(condition.codec, condition.num_bytes)
        rest, held_out = (dataset.select(np.flatnonzero((self.folds == number) == chosen)) for chosen in (False, True))
        folder = self.run_folder(condition, fold, seed)
        phase = f"{condition.name}, fold {fold}, seed {seed}"
        record = train(
            lambda: create_model(config.model, rest),
            rest,
            held_out,
            dataclasses.replace(config.training, seed=seed),
            folder,
            threads=config.threads,
            progress=lambda state: self.notify(phase, state.samples_done, state.samples_total),
        )
        assert record.metrics is not None
        answers = predict(load_classifier(folder), held_out, batch_size=32)
        score = FoldScore(fold, seed, record.metrics.accuracy, record.images_per_s, record.commit)
        return answers.logits.argmax(1), score

    def outcome(
        self, source: str, answers: dict[str, list[np.ndarray]], scores: dict[str, list[FoldScore]]
    ) -> SoundOutcome:
        """Summarize all runs; each latent condition is compared with the waves of the least more, or as many, bytes."""
        labels = self._open(self.codecs[0]).labels
        results = [
            SoundResult(
                name=condition.name,
                codec=condition.codec,
                bytes_per_segment=int(np.prod(self._open(condition.codec, condition.num_bytes).layout.view_shape)),
                is_baseline=condition.is_baseline,
                per_seed=[float((classes == labels).mean()) for classes in answers[condition.name]],
                folds=scores[condition.name],
            )
            for condition in self.conditions
        ]
        differences = []
        for result in results:
            waves = [
                other for other in results if other.is_baseline and other.bytes_per_segment >= result.bytes_per_segment
            ]
            if result.is_baseline or not waves:
                continue
            baseline = min(waves, key=lambda other: other.bytes_per_segment)
            pairs = list(zip(answers[result.name], answers[baseline.name], strict=False))
            if pairs:
                first, second = zip(*pairs, strict=True)
                differences.append(paired_difference((result.name, first), (baseline.name, second), labels, "accuracy"))
        return SoundOutcome(
            source=source,
            model=self.config.model,
            segment_s=self.config.segment_s,
            num_samples=self.num_samples,
            folds=self.names,
            training=self.config.training.to_json(),
            results=results,
            differences=differences,
        )

    def run_folder(self, condition: SoundCondition, fold: str, seed: int) -> Path:
        """Return the folder of a run."""
        return self.out / "runs" / condition.name / f"fold-{fold}" / f"seed-{seed}"

    def _open(self, codec: str, num_bytes: int | None = None) -> LatentDataset:
        return open_latents(self._latents_folder(codec), SPLIT, bytes=num_bytes)

    def _latents_folder(self, codec: str) -> Path:
        return self.out / "latents" / codec


def _require_sounds(source: Source) -> int:
    """Return the number of channels; raises `CallError` for a source of something else, or without classes."""
    if source.kind != "audio":
        raise CallError(f"{source.name} holds no sound; give audiofolder:PATH, or use `cdl compare` for images")
    if source.split_names != [SPLIT]:
        raise CallError(
            f"{source.name} has splits {', '.join(source.split_names)}, but folds are of one; add ?splits=no"
        )
    if not source.class_names or len(source.class_names) < 2:
        raise CallError(f"{source.name} has fewer than two classes; give a folder with a folder for each class")
    channels = source.channels
    if channels is None:
        raise CallError(f"{source.name} has no clip that can be read; give a folder of sounds")
    return channels
