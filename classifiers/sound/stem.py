"""Chooses and builds the stem of a classifier of sound."""

from __future__ import annotations

import numpy as np

from classifiers.sound.spectrogram import DEFAULT_BANDS, SpectrogramConfig, SpectrogramStem
from classifiers.sound.waveform import fit_waveform, samples_per_latent, waveform_rate, waveform_shape
from walloc_cdl.data import LatentDataset, ModelInput
from walloc_cdl.errors import CallError

MEASURED_SOUNDS = 64
"""Number of sounds, at most, from which mean and deviation of the spectrograms are measured."""

MEASURED_AT_ONCE = 16


def require_spectrogram(dataset: LatentDataset, stem: str, grid: int | None) -> SpectrogramConfig:
    """Return the spectrogram for a data set of sound with `grid` mel bands, 64 by default.

    Raises `CallError` for another stem than `synthesis`, and for sounds that are too short for a spectrogram.
    """
    if stem != "synthesis":
        raise CallError(
            f"stem {stem!r} takes latents of images, those of {dataset.folder} are of sound; use stem `synthesis`, "
            "which makes a spectrogram of them"
        )
    return SpectrogramConfig.choose(
        rate=waveform_rate(dataset),
        block=samples_per_latent(dataset),
        neighbors=waveform_shape(dataset)[1],
        trim=dataset.spec.extra_frames // 2,
        latents=dataset.latent_shape[1],
        bands=DEFAULT_BANDS if grid is None else grid,
    )


def build_sound_stem(config: SpectrogramConfig, dataset: LatentDataset, model_input: ModelInput) -> SpectrogramStem:
    """Build the stem for the sounds of a data set, with the mean and deviation of their spectrograms."""
    stem = SpectrogramStem.fold(config, fit_waveform(dataset), model_input)
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), MEASURED_SOUNDS)).astype(int)
    stem.normalize(
        model_input(dataset.gather(part).codes)
        for part in np.split(rows, range(MEASURED_AT_ONCE, len(rows), MEASURED_AT_ONCE))
    )
    return stem
