"""A plausible `Results` of a comparison of 40 tested images, of two or more seeds."""

from __future__ import annotations

import numpy as np
import torch

from experiments.comparison.answer import find_answer, replicates
from experiments.comparison.differences import paired_difference
from experiments.comparison.pictures import data_uri
from experiments.comparison.results import (
    BreakEven,
    ConditionResult,
    Costs,
    EpochPoint,
    LatentStatistics,
    PrefixQuality,
    Results,
    RunResult,
    SeenSample,
    SourceFacts,
    Trial,
)

SCORES = {
    "full": 0.9,
    "pixels-16": 0.5,
    "latents-768": 0.6,
    "pixels-32": 0.7,
    "latents-3072": 0.9,
    "pixels-64": 0.9,
    "latents-12288": 0.9,
    "latents-16x:channels": 0.6,
    "jpeg-3072": 0.8,
}
SIZES = {"full": 196_608, "pixels-16": 768, "pixels-32": 3072, "pixels-64": 12_288, "latents-16x:channels": 12_288}
CLASSES = ["cat", "dog", "<b>fox</b>"]


def make_results(num_tested: int = 40, num_seeds: int = 2, scores: dict[str, float] = SCORES) -> Results:
    """Returns results in which each condition is right on about its share of the images, other ones with each seed."""
    generator = np.random.default_rng(0)
    labels = np.arange(num_tested) % len(CLASSES)
    rank = generator.permutation(num_tested)
    conditions = [_condition(name, share, labels, rank, num_seeds) for name, share in scores.items()]
    names = {each.name: each for each in conditions}
    pairs = [("latents-768", "pixels-16"), ("latents-3072", "pixels-32"), ("latents-12288", "pixels-64")]
    pairs += [(name, "full") for name in scores if name != "full"]
    found = [
        paired_difference(
            *((name, replicates(names[name].runs, "accuracy")) for name in pair), labels, "accuracy", num_comparisons=3
        )
        for pair in pairs
        if set(pair) <= set(names)
    ]
    pictures = [torch.from_numpy(generator.integers(0, 256, (3, 32, 32), np.uint8)) for _ in range(2)]
    return Results(
        method="train",
        source=SourceFacts(
            name="photos",
            size=256,
            channels=3,
            class_names=CLASSES,
            num_train=100,
            num_test=num_tested,
            test="split test",
            file_bytes=24_000.0,
            keys=[f"test/{number}.jpg" for number in range(num_tested)],
            labels=labels.tolist(),
        ),
        model="resnet18",
        weights=None,
        metric="accuracy",
        matched_by="bytes",
        settings={"epochs": 15, "lr": 1e-3},
        command="cdl compare imagefolder:DATA/photos --out out",
        conditions=conditions,
        differences=found,
        answer=find_answer(conditions, labels.tolist(), "accuracy", source="photos", model="resnet18"),
        break_even=[BreakEven("latents-3072", 20.0, 12.0, 8.0, 5.0, 5.2)],
        samples=[
            SeenSample(3, "conditions disagree", data_uri(pictures[0]), dict.fromkeys(scores, data_uri(pictures[1])))
        ],
        statistics=[LatentStatistics("rgb", [0.0, 1.0], [1.0, 0.5], [6, 2], [PrefixQuality(768, 20.0)])],
        environment={"torch": "2.11", "commit": None},
    )


def _condition(name: str, share: float, labels: np.ndarray, rank: np.ndarray, num_seeds: int) -> ConditionResult:
    kind = name.partition("-")[0]
    size = SIZES.get(name) or int(name.partition("-")[2])
    runs = []
    for seed in range(num_seeds):
        right = (rank + seed) % len(labels) < share * len(labels)
        predicted = np.where(right, labels, (labels + 1) % len(CLASSES))
        runs.append(
            RunResult(
                name=f"seed {seed}",
                score=float(right.mean()),
                predicted=predicted.tolist(),
                probabilities=None,
                history=[EpochPoint(1, 1.0, None), EpochPoint(2, 0.5 + seed / 10, share)],
                elapsed_s=10.0,
                record={"seed": seed},
            )
        )
    return ConditionResult(
        name=name,
        kind=kind,
        codec=None if kind == "jpeg" else "rgb",
        stored=f"{size} bytes",
        seen="64 × 64 pixels",
        stem="channels" if name.endswith(":channels") else "synthesis",
        grid=64,
        values_per_sample=size,
        bytes_per_sample=size,
        psnr_db=None if kind == "full" else 20 + size / 3072,
        num_parameters=11_000_000,
        setting={"lr": 1e-3},
        trials=[Trial({"lr": 1e-3}, 0.5)],
        runs=runs,
        costs=Costs(500.0, 140 * size, 100_000.0, 300.0, 900.0, {"loader": 0.1, "step": 0.9}, 10**8, 10**9, 4096),
    )
