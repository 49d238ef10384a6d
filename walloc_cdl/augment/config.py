"""`AugmentConfig`: the settings of augmentation, and the presets that commands offer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from walloc_cdl.errors import CallError, unknown_name

POLICY_NAMES = ("rand", "trivial")


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of a pipeline, with timm's names where it has the same. Defaults change nothing.

    Raises `CallError` for values out of range.
    """

    scale: tuple[float, float] | None = None
    """Smallest and largest share of the area of a random resized crop; None for no crop."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of the crop."""
    hflip: float = 0.0
    """Probability of a horizontal flip."""
    vflip: float = 0.0
    rotation: float = 0.0
    """Largest angle in degrees of a random rotation."""
    color_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation, each drawn by itself."""
    hue: float = 0.0
    """Largest turn of the hue, up to 0.5."""
    auto_augment: str | None = None
    """`rand`, timm's `rand-m9-mstd0.5-inc1`, or `trivial`, torchvision's `TrivialAugmentWide`."""
    reprob: float = 0.0
    """Probability of random erasing."""

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise CallError(f"a crop of {self.scale} of the area; expected two shares above 0, at most 1, ascending")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise CallError(f"an aspect of {self.ratio}; expected two numbers above 0, ascending")
        for name in ("hflip", "vflip", "reprob"):
            if not 0 <= getattr(self, name) <= 1:
                raise CallError(f"{name} is {getattr(self, name)}; expected a probability from 0 to 1")
        for name, largest in (("rotation", 180), ("color_jitter", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= largest:
                raise CallError(f"{name} is {getattr(self, name)}; expected 0 to {largest}")
        if self.auto_augment is not None and self.auto_augment not in POLICY_NAMES:
            raise unknown_name("policy", self.auto_augment, POLICY_NAMES, f"choose one of {', '.join(POLICY_NAMES)}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, for canonical JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


PRESETS = {
    "none": AugmentConfig(),
    "light": AugmentConfig(scale=(0.35, 1.0), hflip=0.5),
    "timm": AugmentConfig(scale=(0.08, 1.0), hflip=0.5, auto_augment="rand", reprob=0.25),
}
"""`light` crops and flips; `timm` is what timm's training recipes have in common."""


@dataclass(frozen=True)
class SpectrogramAugmentConfig:
    """Settings of the augmentation of sound; defaults change nothing. Raises `CallError` for values out of range."""

    shift: bool = False
    """Whether a sound begins at a random moment; its end then precedes its beginning."""
    gain: float = 0.0
    """Largest change of loudness, as a multiple of the spectrograms' standard deviation."""
    time_mask: float = 0.0
    """Largest share of the columns that a mask covers."""
    band_mask: float = 0.0
    """Largest share of the mel bands that a mask covers."""
    num_masks: int = 1
    """Number of masks of each kind."""

    def __post_init__(self) -> None:
        for name in ("time_mask", "band_mask"):
            if not 0 <= getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; expected a share from 0 to less than 1")
        if not 0 <= self.gain <= 10:
            raise CallError(f"gain is {self.gain}; expected 0 to 10 standard deviations")
        if self.num_masks < 1:
            raise CallError(f"num_masks is {self.num_masks}; expected at least 1")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, for canonical JSON."""
        return dataclasses.asdict(self)


SOUND_PRESETS = {
    "none": SpectrogramAugmentConfig(),
    "light": SpectrogramAugmentConfig(shift=True, time_mask=0.25, band_mask=0.25),
    "timm": SpectrogramAugmentConfig(shift=True, gain=0.3, time_mask=0.25, band_mask=0.25, num_masks=2),
}
"""The presets have the names of those of images: `light` shifts and masks once, `timm` changes more."""
