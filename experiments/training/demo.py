"""The comparison of `cdl demo`, small enough to take a few minutes on two cores."""

from __future__ import annotations

from classifiers import TrainConfig
from experiments.training.compare import CompareConfig

MODEL = "test_resnet"
"""timm's smallest ResNet (0.4 M parameters): a run takes about a minute on two cores without bf16."""


def demo_config(num_seeds: int = 2) -> CompareConfig:
    """Returns the settings: solar cells (gray, 300 px, from elpv-dataset), defective or not, at 256 px.

    Both conditions store 4,096 values per sample.
    """
    return CompareConfig(
        source="sample:elpv",
        conditions=("pixels-64", "latents-16x"),
        model=MODEL,
        size=256,
        num_seeds=num_seeds,
        training=TrainConfig(epochs=10, batch_size=32, lr=3e-3, val_interval=0),
    )
