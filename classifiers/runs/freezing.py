"""Training a part of a classifier first: which layers are frozen, and until which epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from classifiers.models.classifier import LatentClassifier
from classifiers.models.split import frozen_modules, frozen_parameters
from classifiers.runs.train_config import TrainConfig


class GivesFeatures(Protocol):
    """A loader that can give features of frozen layers in place of codes."""

    gives_features: bool


@dataclass(frozen=True, eq=False)
class Freezing:
    """Freezes the layers of a classifier before `until`, for `epochs` epochs, or always for None.

    Frozen layers get no gradient, and compute as in evaluation: batch normalization keeps its statistics, and nothing
    is dropped.
    """

    model: LatentClassifier
    until: str
    epochs: int | None

    def before_epoch(self, loader: GivesFeatures) -> Callable[[int], None]:
        """Returns what a training loop calls before an epoch: it freezes, and says what the loader gives."""

        def call(epoch: int) -> None:
            self.apply(epoch)
            loader.gives_features = self.is_on(epoch)

        return call

    def is_on(self, epoch: int) -> bool:
        """Returns whether layers are frozen in an epoch, counted from 0."""
        return self.epochs is None or epoch < self.epochs

    def apply(self, epoch: int) -> None:
        """Freeze the layers, or all train again from the epoch on in which they are no longer frozen."""
        backbone, on = self.model.backbone, self.is_on(epoch)
        frozen = set(frozen_parameters(backbone, self.until))
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(not on or name not in frozen)
        if self.model.config.is_composed:  # a convolution of random weights is trained always
            self.model.stem.requires_grad_(not on)
        self.model.frozen = tuple(frozen_modules(backbone, self.until)) if on else ()


def build_freezing(model: LatentClassifier, config: TrainConfig) -> Freezing | None:
    """Returns the freezing of a configuration; None if all layers are trained.

    Raises `CallError` for a stage that the model does not have.
    """
    if config.freeze_until is None:
        return None
    frozen_parameters(model.backbone, config.freeze_until)
    return Freezing(model, config.freeze_until, config.unfreeze_epoch)
