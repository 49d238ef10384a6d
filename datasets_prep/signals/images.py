"""Images: uint8 pixels of a square crop; `datasets_prep.pixels` says what they look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from datasets_prep.pixels import load_native, load_pixels
from datasets_prep.signals.base import Preparation, Stored

DEFAULT_SIZE = 256


@dataclass(frozen=True)
class ImagePreparation(Preparation):
    """Shorter side to `size` by PIL's Lanczos filter, center crop, uint8."""

    channels: int
    """1 (gray) or 3 (RGB)."""
    size: int = DEFAULT_SIZE
    """Pixels a side."""

    kind: ClassVar[str] = "image"
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    memory_bytes: ClassVar[int | None] = 4 * 2**30

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, S, S)."""
        return self.channels, self.size, self.size

    def load(self, stored: Stored) -> np.ndarray:
        """See `load_pixels`."""
        return load_pixels(stored, self.size, self.channels)

    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """See `datasets_prep.pixels.load_native`."""
        return load_native(stored, self.channels, multiple)

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`."""
        return {
            "size": self.size,
            "channels": self.channels,
            "resize": "shorter side, PIL Lanczos",
            "crop": "center",
            "transparency": "on white",
        }
