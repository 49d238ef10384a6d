"""The outcome of a comparison with random figures."""

import pytest

from experiments.comparison.differences import Difference
from experiments.comparison.outcome import ConditionOutcome, Outcome
from walloc_cdl.threads import torch_threads


def run_record(accuracy: float, seed: int) -> dict:
    metrics = {
        "num_samples": 40,
        "accuracy": accuracy,
        "macro_f1": accuracy,
        "auc": None,
        "num_classes": 2,
        "confusion": {"true": [0, 1], "predicted": [0, 1], "count": [20, 20]},
    }
    return {"metrics": metrics, "images_per_s": 100.0 + seed, "seeds": {"train": seed}}


@pytest.fixture(autouse=True)
def one_thread():
    """So that no trial chooses the number of threads, on which the last bits of the weights depend."""
    with torch_threads(1):
        yield


@pytest.fixture
def outcome() -> Outcome:
    scores = {"pixels-64": [0.50, 0.54], "latents-16x": [0.60, 0.62], "latents-16x:channels": [0.40, 0.55]}
    conditions = [
        ConditionOutcome(
            name=name,
            codec="resize-rgb-16x" if name.startswith("pixels") else "rgb-16x",
            stem="channels" if name.endswith(":channels") else "synthesis",
            grid=64,
            values_per_sample=12_288,
            bytes_per_sample=12_288,
            num_parameters=11_000_000,
            runs=[run_record(score, seed) for seed, score in enumerate(values)],
        )
        for name, values in scores.items()
    ]
    differences = [
        Difference("latents-16x", "pixels-64", 0.09, 0.01, 0.17, [0.10, 0.08]),
        Difference("latents-16x:channels", "pixels-64", -0.045, -0.2, 0.11, [-0.10, 0.01]),
    ]
    return Outcome(
        source="photos",
        size=256,
        model="resnet18",
        num_train=100,
        num_test=40,
        seeds=[0, 1],
        metric="accuracy",
        conditions=conditions,
        differences=differences,
        sentence="One sentence.",
        environment={"torch": "2.11", "commit": None},
    )
