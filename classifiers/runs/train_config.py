"""`TrainConfig`: the settings for training a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from walloc_cdl.augment.pipeline import PRESETS, AugmentConfig
from walloc_cdl.augment.spectrogram import SpectrogramAugmentConfig
from walloc_cdl.training import LoopConfig, require_fraction


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """The settings of the training loop, and those of the loss."""

    label_smoothing: float = 0.0
    """Fraction of a sample's target that is spread over all classes, in [0, 1)."""
    augment: AugmentConfig | SpectrogramAugmentConfig = PRESETS["none"]
    """Augmentation of the pixels, or of the spectrograms, that the synthesis stem makes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("label_smoothing", self.label_smoothing)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        return {**super().to_json(), "augment": self.augment.to_json()}
