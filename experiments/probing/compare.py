"""`cdl compare --probe`: the curve of accuracy against stored bytes, without training a network.

Every image is stored in every condition and restored at its full size. Features of what is restored are computed by a
frozen network, or by an image pyramid, and a logistic regression is trained on those of the training images in each
condition. So the question is whether what decides the classes is still there.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.models.pixel_classifier import load_pixel_classifier
from classifiers.probe.heads import HEADS, fit_head
from datasets_prep.codec_fit.source_signals import select_samples
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.sources import Source, open_source
from datasets_prep.sources.core.limits import within_limit
from experiments.comparison.answer import DEFAULT_MARGIN, find_answer, replicates
from experiments.comparison.conditions import COLORS, Setting, default_conditions, parse_condition
from experiments.comparison.differences import METRICS, Difference, paired_difference, paired_sample_difference
from experiments.comparison.pictures import choose_samples, seen_samples
from experiments.comparison.results import (
    ConditionResult,
    Costs,
    Results,
    RunResult,
    SourceFacts,
    save_results,
)
from experiments.comparison.sources import TEST_SPLITS, file_bytes, output_folder, require_images
from experiments.fidelity.samples import PreparedImages
from experiments.probing.features import ImageFeatures, NetworkFeatures, PyramidFeatures
from experiments.probing.forms import ConditionForm, condition_form
from experiments.probing.observe_conditions import Observed, observe_conditions
from walloc_cdl.canonical import sha256_file
from walloc_cdl.codec import load_codec
from walloc_cdl.confinement import confined
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError
from walloc_cdl.threads import torch_threads
from walloc_cdl.training.environment import describe_environment, source_commit

PENALTIES = tuple(10.0**power for power in range(-5, 1))
"""Values of C, the inverse of the penalty on the weights of standardized features, that cross-validation tries."""
USUAL_PENALTY = 0.01
"""Without a choice, where a class has one training image."""
INNER_FOLDS = 3
FOLDS = 5
MIN_TESTED = 300
"""With fewer test samples, all samples are cross-validated by default."""
FEATURES_FOLDER = "features"
OnPhase = Callable[[str, int, int], object]


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of a comparison by probes."""

    source: str
    conditions: tuple[str, ...] | None = None
    """None for the default curve."""
    codec: str | None = None
    """The codec of `latents-BYTES`; None for the shipped one."""
    network: str | None = None
    """A timm model whose features are used; None for those of an image pyramid."""
    weights: Path | None = None
    """A safetensors file of its weights; None for the published ones."""
    size: int = 256
    folds: int | None = None
    """Cross-validate over all splits; None tests the test split if there is one of at least 300 samples, and else
    takes five folds. 1 insists on the test split."""
    seed: int = 0
    margin: float = DEFAULT_MARGIN
    limit: int | None = None
    device: str | None = None
    threads: int | None = None


def probe(config: ProbeConfig, out: Path, *, command: str = "", on_phase: OnPhase = lambda *state: None) -> Results:
    """Compute the features of all conditions, cross-validate, and write `results.json` to `out`.

    The same call resumes an interrupted one, and computes only the conditions that are new. Raises `CallError` for
    invalid settings before anything is written.
    """
    if not 0 <= config.margin < 1:
        raise CallError(f"margin is {config.margin:g}; it must be at least 0 and below 1, such as 0.01 for one point")
    if config.folds is not None and config.folds < 1:
        raise CallError(f"{config.folds} folds; give at least 2, or 1 for the test split")
    out = output_folder(out, {FEATURES_FOLDER})
    source = within_limit(open_source(config.source), config.limit)
    require_images(source)
    channels = source.channels or 3
    texts = config.conditions or default_conditions(config.size, channels, largest_side=config.size)
    if len(set(texts)) != len(texts):
        raise CallError(f"conditions {', '.join(texts)} contain duplicates; give each once")
    setting = Setting(config.size, channels, config.codec)
    conditions = [parse_condition(text, setting) for text in texts]
    preparation = choose_preparation(
        source, load_codec(f"resize-{COLORS[channels]}-1x"), PrepareConfig(size=config.size)
    )
    forms = [condition_form(condition, tuple(preparation.shape)) for condition in conditions]
    samples = select_samples(source)
    parts_of = _choose_parts(source, samples, config)
    features = _features(config)
    with confined(out), torch_threads(config.threads):
        used, observed = observe_conditions(
            source,
            preparation,
            samples,
            forms,
            features,
            out / FEATURES_FOLDER,
            on_image=lambda done, total: on_phase(f"features of {len(forms)} conditions", done, total),
        )
        chosen = [samples[place] for place in used]
        labels = np.array([source.label(*sample) for sample in chosen])
        parts = parts_of(chosen, labels)
        tested = np.sort(np.concatenate([test for _, test in parts]))
        metric = "auc" if len(source.class_names or ()) == 2 and len(np.unique(labels[tested])) == 2 else "accuracy"
        results = []
        for number, form in enumerate(forms):
            on_phase(f"linear classifier {number + 1} of {len(forms)}", 0, 0)
            results.append(_condition(form, observed[form.condition.name], labels, parts, tested, metric, config))
        facts = SourceFacts(
            name=source.name,
            size=config.size,
            channels=channels,
            class_names=list(source.class_names or ()),
            num_train=len(parts[0][0]),
            num_test=len(tested),
            test=_test_text(parts, config, chosen, tested),
            file_bytes=file_bytes(source, chosen),
            keys=[source.key(*chosen[place]) for place in tested],
            labels=labels[tested].tolist(),
        )
        shown = choose_samples(results, facts.labels)
        pictures = PreparedImages(source, preparation, [chosen[tested[index]] for index in shown])
        samples_seen = seen_samples(
            shown,
            pictures,
            {form.condition.name: (lambda pixels, form=form: form.restore(pixels)[0]) for form in forms},
        )
        outcome = Results(
            method="probe",
            source=facts,
            model=f"a linear classifier on {features.title}",
            weights=features.weights,
            metric=metric,
            matched_by="bytes",
            settings=_settings(config, texts),
            command=command,
            conditions=results,
            differences=_differences(results, np.array(facts.labels), metric),
            answer=find_answer(
                results,
                facts.labels,
                metric,
                source=source.name,
                model=f"a linear classifier on {features.title}",
                margin=config.margin,
            ),
            break_even=[],
            samples=samples_seen,
            statistics=[],
            environment={
                **describe_environment(choose_device(config.device), "fp32", ("timm",)),
                "commit": source_commit(),
            },
        )
        save_results(outcome, out)
    return outcome


def _features(config: ProbeConfig) -> ImageFeatures:
    if config.network is None:
        if config.weights is not None:
            raise CallError(f"weights {config.weights} of which model? Name it with --features")
        return PyramidFeatures()
    network = load_pixel_classifier(config.network, config.weights, crop_share=1.0)
    weights = "published" if config.weights is None else _digest(config.weights)
    return NetworkFeatures(network.to(choose_device(config.device)), weights)


def _digest(path: Path) -> str:
    return f"{path.name}, SHA-256 {sha256_file(path)[:16]}"


Parts = list[tuple[np.ndarray, np.ndarray]]
"""Places of training and tested samples, for each fold."""


def _choose_parts(
    source: Source, samples: Sequence[tuple[str, int]], config: ProbeConfig
) -> Callable[[Sequence[tuple[str, int]], np.ndarray], Parts]:
    """Return what divides the usable samples; raise `CallError` where that is not possible."""
    labels = np.array([source.label(*sample) for sample in samples])
    counts = np.bincount(labels[labels >= 0], minlength=len(source.class_names or ()))
    test_split = next((name for name in TEST_SPLITS if name in source.split_names), None)
    splits = np.array([split for split, _ in samples])
    num_test = int(((splits == test_split) & (labels >= 0)).sum()) if test_split else 0
    has_split = "train" in source.split_names and num_test > 0
    if config.folds == 1 and not has_split:
        raise CallError(f"{source.name} has the splits {', '.join(source.split_names)}; give --folds 5")
    if config.folds == 1 or (config.folds is None and has_split and num_test >= MIN_TESTED):
        return lambda chosen, labels: [_of_split(chosen, labels, test_split or "")]
    present = counts[counts > 0]
    folds = min(config.folds or FOLDS, int(present.min()))
    if folds < 2 or len(present) < 2:
        few = ", ".join(
            f"{name} {count}" for name, count in zip(source.class_names or (), counts, strict=False) if count < 2
        )
        raise CallError(
            f"{source.name} has classes of fewer than two images ({few}), which cannot be both trained on and tested; "
            "give each class at least two, better ten"
        )
    return lambda chosen, labels: _folds(labels, folds, config.seed)


def _of_split(chosen: Sequence[tuple[str, int]], labels: np.ndarray, test_split: str) -> tuple[np.ndarray, np.ndarray]:
    splits = np.array([split for split, _ in chosen])
    return np.flatnonzero((labels >= 0) & (splits == "train")), np.flatnonzero((labels >= 0) & (splits == test_split))


def _folds(labels: np.ndarray, folds: int, seed: int) -> Parts:
    from sklearn.model_selection import StratifiedKFold

    places = np.flatnonzero(labels >= 0)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [(places[train], places[test]) for train, test in splitter.split(places, labels[places])]


def _condition(
    form: ConditionForm,
    observed: Observed,
    labels: np.ndarray,
    parts: Parts,
    tested: np.ndarray,
    metric: str,
    config: ProbeConfig,
) -> ConditionResult:
    """Fit the linear classifiers of one condition, and summarize it."""
    runs, settings = [], []
    for number, (train, test) in enumerate(parts):
        start = time.perf_counter()
        fitted = fit_head(
            HEADS["logistic"],
            observed.features[train].astype(np.float64),
            labels[train],
            values=PENALTIES if np.unique(labels[train], return_counts=True)[1].min() > 1 else (USUAL_PENALTY,),
            folds=INNER_FOLDS,
            scoring="neg_log_loss",
            seed=config.seed,
        )
        settings.append(fitted.setting)
        values = observed.features[test].astype(np.float64)
        places = np.searchsorted(tested, test)
        predicted = np.full(len(tested), -1)
        predicted[places] = fitted.predict(values)
        positive = None
        answers = predicted[places]
        if metric == "auc":
            shares = fitted.model.predict_proba(values)[:, -1]
            positive = np.zeros(len(tested))
            positive[places] = shares
            answers = np.stack([1 - shares, shares], 1)
        score = float(METRICS[metric](labels[test], answers, np.ones((1, len(test))))[0])
        runs.append(
            RunResult(
                name=f"fold {number + 1}" if len(parts) > 1 else "test split",
                score=0.0 if math.isnan(score) else score,
                predicted=predicted.tolist(),
                probabilities=None if positive is None else [round(float(value), 6) for value in positive],
                history=[],
                elapsed_s=time.perf_counter() - start,
                record={"setting": fitted.setting, "num_train": len(train)},
            )
        )
    psnr = observed.psnr_db[tested]
    sizes = observed.num_bytes
    num_features = observed.features.shape[1]
    return ConditionResult(
        name=form.condition.name,
        kind=form.condition.kind.name,
        codec=None if form.codec is None else form.codec.name,
        stored=form.stored,
        seen=f"{config.size} × {config.size} pixels",
        stem=None,
        grid=None,
        values_per_sample=form.num_values,
        bytes_per_sample=float(sizes.mean()),
        psnr_db=float(psnr.mean()) if np.isfinite(psnr).all() else None,
        num_parameters=(num_features + 1) * len(np.unique(labels[labels >= 0])),
        setting=settings[0],
        trials=[],
        runs=runs,
        costs=Costs(total_bytes=int(sizes.sum())),
    )


def _differences(results: Sequence[ConditionResult], labels: np.ndarray, metric: str) -> list[Difference]:
    """Return latents minus pixels at equal bytes, and each condition minus the full images."""
    pairs = [
        (each, other)
        for each in results
        for other in results
        if (each.kind, other.kind) == ("latents", "pixels") and each.bytes_per_sample == other.bytes_per_sample
    ]
    reference = next((each for each in results if each.kind == "full"), None)
    others = [(each, reference) for each in results if reference is not None and each is not reference]
    return [_difference(*pair, labels, metric, len(pairs)) for pair in pairs] + [
        _difference(*pair, labels, metric, len(others)) for pair in others
    ]


def _difference(
    condition: ConditionResult, baseline: ConditionResult, labels: np.ndarray, metric: str, num_comparisons: int
) -> Difference:
    """Return a difference with an interval over test samples: folds of one division are no repetition."""
    (first,), (second,) = replicates(condition.runs, metric), replicates(baseline.runs, metric)
    if metric == "accuracy":
        pair = [
            (each.name, (answers == labels).astype(float)) for each, answers in ((condition, first), (baseline, second))
        ]
        return paired_sample_difference(pair[0], pair[1], num_comparisons=num_comparisons)
    return paired_difference(
        (condition.name, [first]),
        (baseline.name, [second]),
        labels,
        metric,
        num_comparisons=num_comparisons,
        over_seeds=False,
    )


def _test_text(parts: Parts, config: ProbeConfig, chosen: Sequence[tuple[str, int]], tested: np.ndarray) -> str:
    return f"{len(parts)} folds" if len(parts) > 1 else f"split {chosen[tested[0]][0]}"


def _settings(config: ProbeConfig, texts: Sequence[str]) -> dict[str, Any]:
    fields = dataclasses.asdict(config) | {"conditions": list(texts)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}
