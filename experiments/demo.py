"""What `cdl demo` runs: a comparison small enough for two cores and a few minutes."""

from __future__ import annotations

from classifiers import TrainConfig
from experiments.compare import CompareConfig

MODEL = "test_resnet"
"""timm's smallest ResNet (0.4 M parameters): about a minute a run on two cores without bf16."""


def demo_config(num_seeds: int = 2) -> CompareConfig:
    """Solar cells (gray, 300 px, from elpv-dataset) at 256 px, defective or not: 4,096 values each way."""
    return CompareConfig(
        source="sample:elpv",
        conditions=("pixels-64", "latents-16x"),
        model=MODEL,
        size=256,
        num_seeds=num_seeds,
        training=TrainConfig(epochs=10, batch_size=32, lr=3e-3),
    )
