"""The augmentation of a training run: of pixels or of spectrograms, as the classifier needs it."""

from __future__ import annotations

import numpy as np

from classifiers.models.classifier import LatentClassifier
from classifiers.sound.cache import MAX_CACHE_BYTES, SpectrogramCache
from walloc_cdl.augment.config import PRESETS, SOUND_PRESETS, AugmentConfig, SpectrogramAugmentConfig
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.augment.spectrogram import SpectrogramAugmentation
from walloc_cdl.data import LatentDataset, LatentLoader
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.transforms.config import LatentTransformConfig
from walloc_cdl.transforms.pipeline import LatentTransforms


def preset(name: str, kind: str) -> AugmentConfig | SpectrogramAugmentConfig:
    """Return the preset `none`, `light` or `timm` for latents of a kind, `image` or `audio`.

    Raises `CallError` for another name.
    """
    presets = SOUND_PRESETS if kind == "audio" else PRESETS
    if name not in presets:
        raise unknown_name("augmentation", name, presets, f"choose one of {', '.join(presets)}")
    return presets[name]


def build_augmentation(
    model: LatentClassifier, config: AugmentConfig | SpectrogramAugmentConfig | LatentTransformConfig
) -> PixelAugmentation | SpectrogramAugmentation | None:
    """Return the augmentation of a configuration, None for one that changes nothing, or latents.

    Raises `CallError` if the model has no pixels, and for an augmentation of pixels with a classifier of sound, or the
    other way round.
    """
    if isinstance(config, LatentTransformConfig) or config in (PRESETS["none"], SOUND_PRESETS["none"]):
        return None
    is_sound = model.config.spectrogram is not None
    if isinstance(config, SpectrogramAugmentConfig) != is_sound:
        found, needed = ("images", "sound: SOUND_PRESETS") if is_sound else ("sound", "images: PRESETS")
        raise CallError(f"augment is an augmentation of {found}; choose one of {needed}, or none")
    if model.config.stem != "synthesis":
        raise CallError(
            f"pixels are augmented, but the stem {model.config.stem} makes none; choose no augmentation (--augment "
            "none), transforms of latents (LatentTransformConfig), or the stem synthesis"
        )
    return (
        SpectrogramAugmentation(config) if isinstance(config, SpectrogramAugmentConfig) else PixelAugmentation(config)
    )


def set_latent_transforms(model: LatentClassifier, dataset: LatentDataset, config: object) -> None:
    """Give the model the transforms of latents of a configuration; do nothing for one of pixels or spectrograms.

    Raises `CallError` as `LatentTransforms.of_dataset` does, and if the model has other transforms.
    """
    if not isinstance(config, LatentTransformConfig):
        return
    if model.transforms is not None and not isinstance(model.transforms, LatentTransforms):
        raise CallError(
            "augment are transforms of latents, but the model has transforms of its own; give the one or the others"
        )
    device = next(model.parameters()).device
    model.transforms = LatentTransforms.of_dataset(config, dataset, model.input).to(device)


def build_cache(model: LatentClassifier, loader: LatentLoader) -> SpectrogramCache | None:
    """Return a cache of the spectrograms of a training run, None if they change or do not fit into its memory.

    A GPU computes them in less time than a copy to it takes.
    """
    config = model.config
    if config.spectrogram is None or loader.device.type != "cpu" or model.transforms is not None:
        return None
    if loader.views is not None or loader.crop is not None or config.budgets is not None:
        return None
    num_bytes = 4 * config.spec.source_channels * config.spectrogram.bands * config.spectrogram.columns
    if len(loader.dataset) * (num_bytes + int(np.prod(loader.dataset.layout.view_shape))) > MAX_CACHE_BYTES:
        return None
    return SpectrogramCache(lambda codes: model.stem(model.input(codes)))
