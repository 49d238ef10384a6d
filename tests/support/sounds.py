"""Sounds for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def sound(seed: int, num_samples: int, channels: int = 1) -> np.ndarray:
    """Smooth, distinct int16 audio (T, C): a few seeded tones."""
    rng = np.random.default_rng(seed)
    moments = np.arange(num_samples)[:, None]
    tones = sum(np.sin(moments * rng.uniform(0.01, 0.4) + rng.uniform(0, 6, channels)) for _ in range(3))
    return (8000 * tones).astype(np.int16)


def write_sound(path: Path, samples: np.ndarray, rate: int = 8000, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path
