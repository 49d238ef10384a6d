"""The results of trained conditions: what each stores and shows, what it costs, and how they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from classifiers import LatentClassifier
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.sources import Source
from experiments.comparison.conditions import KINDS, Condition
from experiments.comparison.differences import Difference, paired_difference
from experiments.comparison.pictures import choose_samples, seen_samples
from experiments.comparison.results import (
    ConditionResult,
    Costs,
    EpochPoint,
    LatentStatistics,
    PrefixQuality,
    RunResult,
    SeenSample,
)
from experiments.fidelity.observe import psnr_of_each
from experiments.fidelity.samples import PreparedImages
from walloc_cdl.codec import to_bytes
from walloc_cdl.codec.families.resize import ResizeCodec
from walloc_cdl.data import LatentDataset
from walloc_cdl.planes.rows import row_bytes

NUM_MEASURED = 64
"""Test samples of which the PSNR is measured."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """One trained model, evaluated on the test split."""

    name: str
    record: dict[str, Any]
    score: float
    predicted: np.ndarray
    """Predicted classes of the N test samples that have a label, int64 (N,)."""
    probabilities: np.ndarray | None
    """Of two classes, the probability of class 1, float64 (N,)."""

    def answers(self, metric: str) -> np.ndarray:
        """Returns what the metric needs: classes (N,), or probabilities (N, 2)."""
        if metric == "auc" and self.probabilities is not None:
            return np.stack([1 - self.probabilities, self.probabilities], 1)
        return self.predicted

    def result(self, metric: str) -> RunResult:
        """Returns the run as a part of a comparison's results."""
        kept = self.probabilities if metric == "auc" else None
        history = [
            EpochPoint(number, figures["loss"], (figures["metrics"] or {}).get(metric))
            for number, figures in enumerate(self.record["history"], start=1)
        ]
        provenance = {name: self.record[name] for name in ("config", "seeds", "commit", "environment", "epoch")}
        return RunResult(
            name=self.name,
            score=0.0 if math.isnan(self.score) else self.score,
            predicted=self.predicted.tolist(),
            probabilities=None if kept is None else [round(float(value), 6) for value in kept],
            history=history,
            elapsed_s=self.record["elapsed_s"],
            record=provenance,
        )


def condition_result(
    condition: Condition,
    runs: Sequence[TrainedRun],
    model: LatentClassifier,
    train_set: LatentDataset,
    metric: str,
    size: int,
    psnr_db: float | None,
    costs: Costs,
) -> ConditionResult:
    """Returns the summary of one condition."""
    shape = train_set.latent_shape
    channels = train_set.spec.source_channels
    is_full = condition.storage.is_full
    full = channels * size**2
    is_pixels = isinstance(train_set.codec, ResizeCodec)
    planes = train_set.spec.num_planes
    what = f"{planes} bit planes" if train_set.spec.planes is not None else f"{shape[0]} channels"
    stored = f"{what} of {shape[2]} × {shape[1]}"
    if is_full or is_pixels:
        stored = f"{size} × {size} pixels" if is_full else f"{shape[2]} × {shape[1]} pixels"
    height, width = model.config.input_size
    return ConditionResult(
        name=condition.name,
        kind=condition.kind.name,
        codec=condition.storage.codec,
        stored=stored,
        seen=f"{width} × {height} pixels" if condition.stem == "synthesis" else "latent channels",
        stem=condition.stem,
        grid=model.config.grid,
        values_per_sample=full if is_full else int(np.prod(shape)),
        bytes_per_sample=float(full if is_full else row_bytes(train_set.spec, shape[1:])),
        psnr_db=None if is_full else psnr_db,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        setting={"lr": runs[0].record["config"]["train"]["lr"]},
        trials=[],
        runs=[run.result(metric) for run in runs],
        costs=costs,
    )


def differences(
    conditions: Sequence[ConditionResult], runs: dict[str, list[TrainedRun]], labels: np.ndarray, metric: str
) -> list[Difference]:
    """Returns each condition minus its baselines of equal bytes and grid, and each minus the full images."""
    pairs = matched_pairs(conditions)
    full = [each for each in conditions if each.kind == "full"]
    others = [(each, reference) for reference in full for each in conditions if each.kind != "full"]
    found = []
    for group in (pairs, others):
        for condition, baseline in group:
            first, second = ([run.answers(metric) for run in runs[each.name]] for each in (condition, baseline))
            names = (condition.name, first), (baseline.name, second)
            found.append(paired_difference(*names, labels, metric, num_comparisons=len(group)))
    return found


def matched_pairs(conditions: Sequence[ConditionResult]) -> list[tuple[ConditionResult, ConditionResult]]:
    """Returns each condition with its baselines that store as many bytes and show pixels of the same size.

    Other pairs get no difference, since it would also reflect the unequal number of bytes or operations.
    """
    return [
        (each, baseline)
        for each in conditions
        if not KINDS[each.kind].is_baseline
        for baseline in conditions
        if each.kind in KINDS[baseline.kind].is_baseline_for
        and (baseline.bytes_per_sample, _input_size(baseline)) == (each.bytes_per_sample, _input_size(each))
    ]


def _input_size(condition: ConditionResult) -> object:
    """Returns what a model sees; of latents as channels, the grid of the model whose feature maps are matched."""
    return condition.seen if condition.stem == "synthesis" else f"{condition.grid} × {condition.grid} pixels"


class TestPictures:
    """Test samples with their originals, and what models see of them."""

    __test__ = False

    def __init__(self, source: Source, split: str, preparation: ImagePreparation, test_set: LatentDataset) -> None:
        self._source, self._split, self._preparation = source, split, preparation
        places = {source.key(split, index): index for index in range(source.num_samples(split))}
        self.known = np.flatnonzero(test_set.labels >= 0)
        self.keys = test_set.keys(self.known)
        self._places = [places[key] for key in self.keys]

    def originals(self, chosen: Sequence[int]) -> PreparedImages:
        """Returns the full images of some of the labeled test samples."""
        samples = [(self._split, self._places[place]) for place in chosen]
        return PreparedImages(self._source, self._preparation, samples)

    def psnr_db(self, test_set: LatentDataset) -> float | None:
        """Returns the mean PSNR of at most `NUM_MEASURED` decoded test samples; None if one is restored exactly."""
        count = min(len(self.known), NUM_MEASURED)
        chosen = np.unique(np.linspace(0, len(self.known) - 1, count).round().astype(int))
        values, codec, start = [], test_set.codec, 0
        for _, pixels in self.originals(chosen):
            rows = self.known[chosen[start : start + len(pixels)]]
            with torch.inference_mode():
                values += psnr_of_each(pixels, to_bytes(codec.decode(codes_of(test_set, rows))))
            start += len(pixels)
        return float(np.mean(values)) if np.isfinite(values).all() else None

    def seen(
        self, conditions: Sequence[ConditionResult], models: dict[str, tuple[LatentClassifier, LatentDataset]]
    ) -> list[SeenSample]:
        """Returns samples as the models see them, enlarged to the full images' size."""
        labels = next(iter(models.values()))[1].labels[self.known]
        shown = choose_samples(conditions, labels)
        rows = self.known[list(shown)]
        pictures = {name: _seen(model, dataset, rows) for name, (model, dataset) in models.items() if _shows(model)}
        start = 0

        def restore(name: str, pixels: Tensor) -> Tensor:
            part = pictures[name][start : start + len(pixels)]
            return to_bytes(interpolate(part, size=pixels.shape[2:], mode="bicubic"))

        samples = []
        for chosen, pixels in self.originals(list(shown)):
            part = dict(list(shown.items())[start : start + len(pixels)])
            views = {name: (lambda images, name=name: restore(name, images)) for name in pictures}
            samples += seen_samples(part, [(chosen, pixels)], views)
            start += len(pixels)
        return samples


def _shows(model: LatentClassifier) -> bool:
    return model.config.stem == "synthesis"


def _seen(model: LatentClassifier, dataset: LatentDataset, rows: np.ndarray) -> Tensor:
    """Returns the backbone's input for some samples, in [-0.5, 0.5]."""
    mean, std = (value.reshape(-1, 1, 1) for value in (model.stem.pixel_mean, model.stem.pixel_std))
    with torch.inference_mode():
        return model.eval().pixels(dataset.gather(rows).codes) * std + mean


def codes_of(dataset: LatentDataset, rows: np.ndarray) -> Tensor:
    """Returns codes uint8 (N, K, h, w), also of latents that are stored as bit planes."""
    return torch.stack([dataset[int(row)].codes for row in rows])


def latent_statistics(train_set: LatentDataset, prefixes: list[PrefixQuality]) -> LatentStatistics:
    """Returns mean and deviation of each channel's codes, and its stored bits."""
    statistics = train_set.statistics
    bits = train_set.spec.channel_bits if train_set.spec.planes is not None else None
    count = len(statistics.mean)
    return LatentStatistics(
        codec=train_set.codec.name,
        means=[float(value) for value in statistics.mean],
        deviations=[float(value) for value in statistics.std],
        bits=[8] * count if bits is None else [int(value) for value in bits],
        prefixes=prefixes,
    )
