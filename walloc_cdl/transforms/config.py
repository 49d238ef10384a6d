"""`LatentTransformConfig`: the settings of transforms of latents, and the presets that commands offer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class LatentTransformConfig:
    """Settings of `LatentTransforms`; defaults change nothing. Raises `CallError` for values out of range."""

    noise: float = 0.0
    """Probability that the values of a sample are drawn from the quantization interval of their codes."""
    hflip: float = 0.0
    """Probability of a horizontal flip."""
    vflip: float = 0.0
    """Probability of a vertical flip."""
    shift: int = 0
    """Largest shift in latents, up, down, left and right, around the border."""
    crop: tuple[int, int] | None = None
    """Size in latents of a random crop; None for none."""
    brightness: float = 0.0
    """Largest relative change of brightness, from 0 to 1."""
    contrast: float = 0.0
    """Largest relative change of contrast, from 0 to 1."""
    erase: float = 0.0
    """Probability that a box of latents becomes gray."""

    def __post_init__(self) -> None:
        for name in ("noise", "hflip", "vflip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise CallError(f"{name} is {getattr(self, name)}; expected a probability from 0 to 1")
        for name in ("brightness", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise CallError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if type(self.shift) is not int or self.shift < 0:
            raise CallError(f"shift is {self.shift!r}; expected whole latents, 0 or more")
        if self.crop is not None and not (len(self.crop) == 2 and all(type(n) is int and n >= 1 for n in self.crop)):
            raise CallError(f"crop is {self.crop!r}; expected two sizes in whole latents, such as (28, 28)")

    @property
    def needs_operators(self) -> bool:
        """Whether any of the transforms needs the operators of the data set."""
        return any((self.hflip, self.vflip, self.brightness, self.contrast, self.erase))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, for canonical JSON."""
        return {**dataclasses.asdict(self), "crop": None if self.crop is None else list(self.crop)}


LATENT_PRESETS = {"light": LatentTransformConfig(hflip=0.5, shift=4)}
"""`light` flips and shifts; it takes latents of at least 5 × 5."""
