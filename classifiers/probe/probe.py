"""`probe`: how well simple classifiers tell the classes of a data set apart, at any budget of bytes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifiers.evaluation.metrics import metrics_of_classes
from classifiers.probe.cache import cached_features
from classifiers.probe.features import Features, compute_features
from classifiers.probe.heads import FittedHead, Head, fit_head
from walloc_cdl.data import open_files, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import Manifest
from walloc_cdl.planes.rows import row_bytes

TEST_SPLITS = ("test", "validation", "valid", "val")
TRAIN_SPLIT = "train"

OnPhase = Callable[[str, int, int], object]
"""Called with what is being done, and the numbers (done, total) of its samples or steps."""


@dataclass(frozen=True)
class ProbeRow:
    """The result of one head at one budget."""

    num_bytes: int
    """Stored bytes of a sample that were read."""
    num_features: int
    head: str
    setting: dict[str, float]
    """What cross-validation chose; of several folds, the setting of the first."""
    accuracy: float
    macro_f1: float
    elapsed_s: float
    """Duration of fitting and testing, without the features."""


@dataclass(frozen=True)
class ProbeResult:
    """The results of a probe."""

    data: str
    features: str
    num_train: int
    """Training samples; of several folds, those of the first."""
    num_test: int
    test: str
    """The tested split, or the folds."""
    num_classes: int
    majority: float
    """Share of the most frequent class among the tested samples, which a constant answer reaches."""
    rows: list[ProbeRow]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return dataclasses.asdict(self)


def probe(
    location: Path | str,
    features: Features,
    heads: Sequence[Head],
    *,
    budgets: Sequence[int] | None = None,
    split: str | None = None,
    folds: int | None = None,
    cache: Path | None = None,
    device: torch.device | None = None,
    threads: int | None = None,
    seed: int = 0,
    on_phase: OnPhase | None = None,
) -> ProbeResult:
    """Fit each head to the features of the training samples, at each number of bytes, and test it on others.

    `budgets` are bytes of each stored sample, rounded down to whole bit planes; None is all that is stored. The test
    samples are those of `split`, by default `test` or else validation; with `folds` every split is joined and each
    sample tested once. Features are kept in the folder `cache`. Raises `CallError` for a data set without class
    numbers, without those splits, or for bytes that it does not have.
    """
    manifest = open_files(location).load_manifest()
    if manifest.label_kind != "class":
        raise CallError(
            f"{location} has labels of kind {manifest.label_kind!r}, but probes tell classes apart; give a data set "
            "with one class a sample"
        )
    if folds is not None and folds < 2:
        raise CallError(f"{folds} folds; give at least 2")
    if folds is not None and split is not None:
        raise CallError(f"split {split} with {folds} folds, which test every sample; omit one of them")
    names = _splits(manifest, split, folds, location)
    device, notify = device or torch.device("cpu"), on_phase or (lambda phase, done, total: None)
    rows, sizes, num_classes = [], (0, 0, 0.0), 0
    for budget in [None] if budgets is None else sorted(set(budgets)):
        values, labels, origins, num_bytes = _load(location, names, budget, features, cache, device, threads, notify)
        num_classes = max(len(manifest.class_names or ()), int(labels.max()) + 1)
        parts = _parts(labels, origins, names, folds, seed)
        tested = np.concatenate([test for _, test in parts])
        sizes = len(parts[0][0]), len(tested), float(np.bincount(labels[tested]).max() / len(tested))
        for number, head in enumerate(heads):
            started = time.perf_counter()
            notify(f"{head.title}, {num_bytes:,} bytes", number, len(heads))
            fitted = [fit_head(head, values[train], labels[train], seed=seed) for train, _ in parts]
            rows.append(_row(fitted, values, labels, parts, head, num_bytes, num_classes, started))
    test = f"{folds} folds" if folds else names[1]
    return ProbeResult(str(location), features.title, sizes[0], sizes[1], test, num_classes, sizes[2], rows)


def _row(
    fitted: Sequence[FittedHead],
    values: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    head: Head,
    num_bytes: int,
    num_classes: int,
    started: float,
) -> ProbeRow:
    predicted = np.concatenate([one.predict(values[test]) for one, (_, test) in zip(fitted, parts, strict=True)])
    metrics = metrics_of_classes(predicted, labels[np.concatenate([test for _, test in parts])], num_classes)
    return ProbeRow(
        num_bytes=num_bytes,
        num_features=values.shape[1],
        head=head.name,
        setting=fitted[0].setting,
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        elapsed_s=time.perf_counter() - started,
    )


def _splits(manifest: Manifest, split: str | None, folds: int | None, location: Path | str) -> list[str]:
    """Return the splits to read: those of training and test, or all for folds."""
    available = [name for name, summary in manifest.splits.items() if summary.num_samples]
    if folds is not None:
        return available
    test = split or next((name for name in TEST_SPLITS if name in available), None)
    if test is None or test not in available or TRAIN_SPLIT not in available or test == TRAIN_SPLIT:
        raise CallError(
            f"{location} has the splits {', '.join(available)}"
            + (f", of which {split!r} cannot be tested on" if split else "")
            + f"; a probe needs {TRAIN_SPLIT} and another one, or folds (--folds 5)"
        )
    return [TRAIN_SPLIT, test]


def _load(
    location: Path | str,
    names: Sequence[str],
    budget: int | None,
    features: Features,
    cache: Path | None,
    device: torch.device,
    threads: int | None,
    notify: OnPhase,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return features (N, F), labels (N,), the number of each sample's split (N,), and the bytes of a sample."""
    values, labels, origins, num_bytes = [], [], [], 0
    for number, name in enumerate(names):
        dataset = open_latents(location, name, bytes=budget)
        if dataset.layout.ragged:
            raise CallError(f"the samples of {location} differ in size, and probes need one size; prepare them fixed")
        num_bytes = row_bytes(dataset.spec, tuple(dataset.latent_shape[1:]))
        phase = f"{features.title}, {name}, {num_bytes:,} bytes"

        def compute(dataset: Any = dataset, phase: str = phase) -> np.ndarray:
            def progress(done: int, total: int) -> None:
                notify(phase, done, total)

            return compute_features(features, dataset, device=device, threads=threads, progress=progress)

        values.append(cached_features(features, dataset, cache, compute))
        labels.append(dataset.labels)
        origins.append(np.full(len(dataset), number))
    return np.concatenate(values), np.concatenate(labels), np.concatenate(origins), num_bytes


def _parts(
    labels: np.ndarray, origins: np.ndarray, names: Sequence[str], folds: int | None, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the places of training and tested samples, once, or for each fold; those of unknown label are left out."""
    known = labels >= 0
    if folds is not None:
        from sklearn.model_selection import StratifiedKFold

        places = np.flatnonzero(known)
        smallest = int(np.unique(labels[places], return_counts=True)[1].min(initial=len(places)))
        if smallest < folds:
            raise CallError(f"{folds} folds, but a class has {smallest} samples; give at most {smallest}")
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return [(places[train], places[test]) for train, test in splitter.split(places, labels[places])]
    train, test = (np.flatnonzero(known & (origins == number)) for number in (0, 1))
    for name, found in zip(names, (train, test), strict=True):
        if not len(found):
            raise CallError(f"no sample of split {name!r} has a label; choose a labeled split")
    return [(train, test)]
