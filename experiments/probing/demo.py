"""The settings of `cdl demo`."""

from __future__ import annotations

from pathlib import Path

from experiments.probing.compare import ProbeConfig
from walloc_cdl.errors import CallError

SOLAR_CELLS = ("full", *(text for side in (8, 16, 32, 64) for text in (f"pixels-{side}", f"latents-{side**2}")))
"""64 to 4,096 bytes: the curve bends below 256."""


def demo_config(photos: Path | None = None) -> ProbeConfig:
    """Returns the comparison of solar cells (gray, 300 px, from elpv-dataset), defective or not, or of own photos.

    Raises `CallError` for a path that is no folder.
    """
    if photos is None:
        return ProbeConfig("sample:elpv", SOLAR_CELLS, codec="gray-low")
    if not photos.is_dir():
        raise CallError(f"{photos} is not a folder; give one with a folder of images for each class")
    return ProbeConfig(f"imagefolder:{photos}")
