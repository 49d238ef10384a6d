"""Ragged geometry: images and clips are prepared at their own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets_prep.decode.audio import AudioPreparation
from datasets_prep.decode.images import ImagePreparation, load_whole
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import Stored

PLANNED_SIDE = 512
"""Pixels a side that a plan assumes, to choose the number of samples per shard, before any image has been opened."""

PLANNED_S = 10.0
"""Seconds that a plan assumes for a clip."""


@dataclass(frozen=True)
class RaggedPreparation(Preparation):
    """Prepares samples without resizing, cropping or cutting them: each keeps its size, within the decoders' limits.

    The encoder pads to the stride, and the shard records the size.
    """

    inner: ImagePreparation | AudioPreparation
    """The preparation that decodes; its size is not used."""
    stride: int
    """The codec's stride."""

    ragged = True
    chunk_samples = 2  # a photo of 24 megapixels has 72 MB

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The value of the inner preparation."""
        return self.inner.kind

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        """The value of the inner preparation."""
        return self.inner.dtype

    @property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """The value of the inner preparation."""
        return self.inner.packages

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that a plan assumes, a multiple of the stride; each sample has its own."""
        if isinstance(self.inner, AudioPreparation):
            sides = [round(PLANNED_S * self.inner.sample_rate)]
        else:
            sides = [PLANNED_SIDE, PLANNED_SIDE]
        return self.inner.channels, *(max(side // self.stride, 1) * self.stride for side in sides)

    def load(self, stored: Stored) -> np.ndarray:
        """Return the signal (C, H, W) or (C, T) at its own size; raises `BadSignalError` if it cannot be used."""
        if isinstance(self.inner, AudioPreparation):
            return self.inner.load_clip(stored)
        return load_whole(stored, self.inner.channels, profiles=self.inner.icc)

    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """See `Preparation.load_native`."""
        return self.inner.load_native(stored, multiple)

    def evaluation_signals(self, signals: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """See `Preparation.evaluation_signals`; returns the largest central window that fits into all signals, at most
        `shape`. Signals that are smaller than the stride are padded.
        """
        least = [(0, 0), *[(0, self.stride)] * (len(self.shape) - 1)]
        padded = [
            np.pad(signal, least, mode="edge") if min(signal.shape[1:]) < self.stride else signal for signal in signals
        ]
        sides = np.minimum([signal.shape[1:] for signal in padded], self.shape[1:]).min(0) // self.stride * self.stride
        return np.stack([_middle(signal, sides.tolist()) for signal in padded])

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`; omits the inner preparation's settings of size."""
        omitted = ("size", "resize", "crop", "decoder", "segment_samples", "hop_samples", "short_clips", "rest")
        settings = {name: value for name, value in self.inner.to_json().items() if name not in omitted}
        return {**settings, "geometry": "ragged", "padding": "to the stride, edge repeated at the right and bottom"}

    @property
    def memory_bytes(self) -> int | None:  # type: ignore[override]
        """The value of the inner preparation."""
        return self.inner.memory_bytes

    def versions(self) -> dict[str, str]:
        """See `Preparation.versions`."""
        return self.inner.versions()


def _middle(signal: np.ndarray, sides: list[int]) -> np.ndarray:
    """Return the central window of these sides of a signal (C, …)."""
    starts = [(length - side) // 2 for length, side in zip(signal.shape[1:], sides, strict=True)]
    return signal[(slice(None), *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))]
