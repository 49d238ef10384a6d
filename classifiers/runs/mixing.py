"""The mixing of neighbors in a run: whether its model, its batches and its epoch allow it."""

from __future__ import annotations

from classifiers.models.classifier import LatentClassifier
from classifiers.runs.train_config import TrainConfig
from walloc_cdl.augment.mixing import NeighborMixing, require_whole_pairs
from walloc_cdl.data import LatentLoader
from walloc_cdl.errors import CallError


def build_mixing(model: LatentClassifier, config: TrainConfig, loader: LatentLoader) -> NeighborMixing | None:
    """Return the mixing of a configuration, None for none.

    Raises `CallError` if the model has no pixels, or if a process would get a part of a pair.
    """
    if config.mixing is None:
        return None
    if model.config.stem != "synthesis":
        raise CallError(
            f"mixup and CutMix mix pixels, but the stem {model.config.stem} makes none; omit --mixup and --cutmix, or "
            "choose the stem synthesis"
        )
    require_whole_pairs(loader.batch_size, loader.world_size)
    if loader.batch_size < 2:
        raise CallError("mixup and CutMix mix neighbors in a batch, but batch_size is 1; choose an even batch size")
    return NeighborMixing(config.mixing)


def mixes_in(config: TrainConfig, epoch: int) -> bool:
    """Return whether neighbors are mixed in an epoch, counted from 0."""
    return not config.mixup_off_epoch or epoch < config.mixup_off_epoch
