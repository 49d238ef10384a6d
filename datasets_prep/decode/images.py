"""Images: uint8 pixels of a square; `datasets_prep.decode.pixels` says what they look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import features

from datasets_prep.decode.pixels import load_native, load_pixels
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import Stored

DEFAULT_SIZE = 256

LIBRARIES = {
    "libavif": "avif",
    "libjpeg-turbo": "libjpeg_turbo",
    "libtiff": "libtiff",
    "libwebp": "webp",
    "openjpeg": "jpg_2000",
}
"""Libraries that decide pixels, and what PIL calls them. PNG's is not among them: it loses nothing, so all agree."""


@dataclass(frozen=True)
class ImagePreparation(Preparation):
    """Resized to a square by one of PIL's kernels, cropped or padded; uint8."""

    channels: int
    """1 (gray) or 3 (RGB)."""
    size: int = DEFAULT_SIZE
    """Pixels a side."""
    resize: str = "lanczos"
    """One of `datasets_prep.decode.resize_crop.KERNELS`."""
    crop: str = "center"
    """One of `datasets_prep.decode.resize_crop.CROPS`."""
    icc: str = "ignore"
    """One of `datasets_prep.decode.icc.PROFILE_CHOICES`."""
    decoder: str = "pil"
    """One of `datasets_prep.decode.pixels.DECODERS`."""

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
        return load_pixels(
            stored,
            self.size,
            self.channels,
            kernel=self.resize,
            crop=self.crop,
            profiles=self.icc,
            decoder=self.decoder,
        )

    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """See `datasets_prep.decode.pixels.load_native`."""
        return load_native(stored, self.channels, multiple, profiles=self.icc)

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`."""
        return {
            "kind": self.kind,
            "size": self.size,
            "channels": self.channels,
            "resize": self.resize,
            "crop": self.crop,
            "icc": self.icc,
            "decoder": self.decoder,
            "transparency": "on white",
        }

    def versions(self) -> dict[str, str]:
        """See `Preparation.versions`; PIL comes with decoders of its own, or takes the system's."""
        wanted = {**LIBRARIES, "littlecms": "littlecms2"} if self.icc != "ignore" else LIBRARIES
        return {**super().versions(), **{name: features.version(key) or "none" for name, key in wanted.items()}}
