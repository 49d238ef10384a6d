"""`TrainConfig`: the settings for training a classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from walloc_cdl.augment.config import PRESETS, SOUND_PRESETS, AugmentConfig, SpectrogramAugmentConfig
from walloc_cdl.errors import CallError
from walloc_cdl.settings import setting
from walloc_cdl.training.config import LoopConfig, require_fraction
from walloc_cdl.transforms.config import LatentTransformConfig

if TYPE_CHECKING:
    from walloc_cdl.augment.mixing import MixConfig

BALANCED = "balanced"
LOSSES = {
    "class": ("cross_entropy", "bce"),
    "multilabel": ("bce",),
    "regression": ("mse", "l1", "huber"),
}
"""The losses of each kind of label, the default first."""
SAMPLINGS = ("uniform", BALANCED)


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise CallError(f"{name} is {value}; it must be above 0 and below 1")


def _require_alpha(name: str, value: float) -> None:
    if not 0 <= value <= 100:
        raise CallError(f"{name} is {value}; expected 0 (off) to 100, such as 0.2 or 1")


def _require_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise CallError(f"{name} is {value}; expected a probability from 0 to 1")


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """The settings of the training loop, and those of the loss, the sampling and the augmentation.

    Those that timm's train.py has, too, have its names.
    """

    loss: str | None = setting(
        None,
        "Loss: cross_entropy or bce of classes, bce of several a sample, mse, l1 or huber of regression.",
        choices=tuple(dict.fromkeys(name for names in LOSSES.values() for name in names)),
    )
    """`cross_entropy` or `bce` (binary cross entropy of each class) of class numbers, `bce` of several classes a
    sample, `mse`, `l1` or `huber` of regression; None for the first of them."""
    smoothing: float = setting(0.0, "Label smoothing, from 0 to below 1.", check=require_fraction)
    """Fraction of a sample's target that is spread over all classes, in [0, 1)."""
    bce_target_thresh: float | None = setting(
        None, "With bce, targets above it become 1, others 0.", check=_require_share
    )
    """With `bce`, targets above it become 1 and others 0, after mixing."""
    bce_sum: bool = setting(False, "With bce, sum over the classes, in place of the mean.")
    class_weights: str | tuple[float, ...] | None = setting(
        None, "What errors of each class count: balanced, or a number for each, such as 1,2,1."
    )
    """What an error of each class counts: `balanced`, inversely proportional to its samples, or a number for each
    class; None for all the same."""
    sampling: str = setting("uniform", "uniform, or balanced: each class equally often.", choices=SAMPLINGS)
    """`uniform`: each sample once an epoch. `balanced`: each class equally often."""
    mixup: float = setting(0.0, "Mixup: its alpha, such as 0.2; 0 for none.", check=_require_alpha)
    """Mixup is on if above 0: both parameters of the Beta distribution of a sample's own share of its mixture with its
    neighbor."""
    cutmix: float = setting(0.0, "CutMix: its alpha, such as 1; 0 for none.", check=_require_alpha)
    """CutMix is on if above 0: the same of the share of the picture that is not replaced by a box of the neighbor."""
    mixup_prob: float = setting(1.0, "Probability that a pair is mixed.", check=_require_probability)
    """Probability that a pair is mixed, if mixup or CutMix is on."""
    mixup_switch_prob: float = setting(0.5, "Probability of CutMix, with mixup.", check=_require_probability)
    """Probability of CutMix, if mixup is on as well."""
    mixup_off_epoch: int = setting(0, "Mix in this number of epochs only; 0 for all.", minimum=0)
    """Mix in this number of epochs only; 0 for all."""
    augment: AugmentConfig | SpectrogramAugmentConfig | LatentTransformConfig = PRESETS["none"]
    """Augmentation of the pixels, or of the spectrograms, that the synthesis stem makes, or of latents."""
    freeze_until: str | None = setting(
        None, "Do not train the layers before this stage; head for all but the last layer."
    )
    """The layers before this stage are not trained: `head` for all but the layer that makes logits, or a name of
    `classifiers.models.split.stage_names`; None trains all layers."""
    unfreeze_epoch: int | None = setting(None, "Epochs after which frozen layers are trained, too; default never.")
    """Number of epochs after which frozen layers are trained, too; None for never."""
    augment_variants: int | None = setting(
        None, "Augmentations of a sample to draw from while layers are frozen; default new ones."
    )
    """Number of augmentations of each sample, among which an epoch draws while layers are frozen, so that features of
    frozen layers can be kept; None for new ones in every epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_weights()
        self._require_freezing()

    def _require_freezing(self) -> None:
        for name, lowest in (("unfreeze_epoch", 1), ("augment_variants", 1)):
            value = getattr(self, name)
            if value is None:
                continue
            if self.freeze_until is None:
                raise CallError(f"{name} is {value}, but no layer is frozen; give freeze_until as well, or omit it")
            if value < lowest:
                raise CallError(f"{name} is {value}; it must be at least {lowest}")
        if self.augment_variants is not None and self.augment in (PRESETS["none"], SOUND_PRESETS["none"]):
            raise CallError(f"augment_variants is {self.augment_variants}, but nothing is augmented; omit it")

    def _require_weights(self) -> None:
        weights = self.class_weights
        if isinstance(weights, str):
            if weights != BALANCED:
                raise CallError(f"class_weights is {weights!r}; it must be {BALANCED!r}, or a number for each class")
        elif weights is not None and not all(0 <= weight < math.inf for weight in weights):
            raise CallError(f"class_weights are {weights}; they must not be negative")

    @property
    def mixing(self) -> MixConfig | None:
        """How neighbors are mixed; None if they are not."""
        from walloc_cdl.augment.mixing import MixConfig  # imports torch

        config = MixConfig(self.mixup, self.cutmix, self.mixup_prob, self.mixup_switch_prob)
        return config if config.is_on else None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        weights = list(self.class_weights) if isinstance(self.class_weights, tuple) else self.class_weights
        return {**super().to_json(), "class_weights": weights, "augment": self.augment.to_json()}
