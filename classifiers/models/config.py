"""`ClassifierConfig`: everything that is needed to rebuild a classifier without its data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from classifiers.models.settings import STEMS
from classifiers.sound.spectrogram import SpectrogramConfig
from walloc_cdl.errors import DamagedError
from walloc_cdl.schema import from_json
from walloc_cdl.spec import LatentSpec
from walloc_cdl.training.checkpoint import REMEDY

INTERPOLATIONS = ("bilinear", "bicubic")
MAX_SIDE = 4096
"""More pixels a side than any published model takes."""


@dataclass(frozen=True)
class PixelFit:
    """How pixels of another size become the input of a model, as timm does it for evaluation.

    The shorter side is resized to ⌊side / crop_pct⌋ of the model's input, whose center is cropped.
    """

    size: tuple[int, int]
    """(height, width) of the model's input in pixels."""
    crop_pct: float
    """The model's side over that of the resized image, above 0 and at most 1."""
    interpolation: str
    """`bilinear` or `bicubic`, with a low-pass filter where pixels become fewer."""

    def problem(self) -> str | None:
        """Describe what is out of range; None if nothing is."""
        if (
            not 1 <= min(self.size) <= max(self.size) <= MAX_SIDE
            or not 0 < self.crop_pct <= 1
            or self.interpolation not in INTERPOLATIONS
        ):
            interpolation = self.interpolation[:60]
            return f"pixels fitted to {self.size} by a crop of {self.crop_pct:g} with filter {interpolation!r}"
        return None


LABEL_KINDS = ("class", "multilabel", "regression")
"""Kinds of labels that are learned."""


@dataclass(frozen=True)
class ClassifierConfig:
    """The structure of a classifier; its weights, synthesis and statistics are saved with the model."""

    name: str
    """A timm model, with or without a tag, such as `resnet18` or `vit_tiny_patch16_224.augreg_in21k`."""
    stem: str
    """`synthesis` or `channels`."""
    grid: int
    """Height of the pixel grid that the timm model sees; with the `channels` stem, of the pixel model whose feature
    maps are matched; of sound, the number of mel bands."""
    alpha: float
    """Exponent of the scaling in `ModelInput`."""
    num_classes: int
    """Number of outputs: of classes, or of regression targets."""
    spec: LatentSpec
    latent_shape: tuple[int, ...]
    """(K, h, w), or (K, t) for sound."""
    label_kind: str = "class"
    """`class` (one class a sample), `multilabel` (any number of them) or `regression`."""
    class_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] | None = None
    """Names of the regression targets."""
    pretrained: bool = False
    """Whether training started from published weights."""
    patch_size: int | None = None
    """Side of a patch in pixels, where it differs from the timm model's default."""
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    is_composed: bool = False
    """Whether the convolution of the `channels` stem is that of pretrained weights composed with the synthesis."""
    fit: PixelFit | None = None
    """How the pixels of the grid become the model's input; None if they are its input."""
    budgets: tuple[int, ...] | None = None
    """Numbers of bit planes, ascending, of which training reads a random one of each sample; None for all planes
    always. A classifier with budgets takes rows of any number of planes."""
    spectrogram: SpectrogramConfig | None = None
    """Of sound, the grid that the timm model sees; None for images."""

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """Names of the outputs: of the classes, or of the regression targets."""
        return self.target_names if self.label_kind == "regression" else self.class_names

    @property
    def block(self) -> int:
        """Side in pixels that one latent covers on the grid, b."""
        return self.grid // self.latent_shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the pixel grid, or of the spectrogram."""
        if self.spectrogram is not None:
            return self.spectrogram.bands, self.spectrogram.columns
        return self.latent_shape[1] * self.block, self.latent_shape[2] * self.block

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the timm model's input."""
        return self.image_size if self.fit is None else self.fit.size

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "spec": self.spec.to_json(),
            "latent_shape": list(self.latent_shape),
            "budgets": None if self.budgets is None else list(self.budgets),
            "class_names": None if self.class_names is None else list(self.class_names),
            "fit": None if self.fit is None else {**dataclasses.asdict(self.fit), "size": list(self.fit.size)},
            "target_names": None if self.target_names is None else list(self.target_names),
            "spectrogram": None if self.spectrogram is None else self.spectrogram.to_json(),
        }

    @classmethod
    def from_json(cls, fields: Any, origin: str) -> ClassifierConfig:
        """Inverse of `to_json` for untrusted values; raises `DamagedError`, naming `origin`."""
        config = from_json(cls, fields, origin, remedy=REMEDY)
        if problem := config._problem():
            raise DamagedError(f"{origin}: {problem}; {REMEDY}")
        return config

    def _problem(self) -> str | None:
        """Describe the first contradiction; None if there is none."""
        if min(*self.latent_shape, self.grid, self.num_classes, self.patch_size or 1) < 1:
            return (
                f"latent shape {self.latent_shape}, grid {self.grid}, {self.num_classes} classes; they are at least 1"
            )
        if len(self.latent_shape) != len(self.spec.axes) or self.spec.latent_channels != self.latent_shape[0]:
            return f"latents {self.latent_shape} of kind {self.spec.kind} and {self.spec.latent_channels} channels"
        if (self.spectrogram is None) != (self.spec.kind == "image"):
            return f"a spectrogram {self.spectrogram} of latents of kind {self.spec.kind}"
        if self.spectrogram is not None:
            return self._problem_of_sound(self.spectrogram)
        if self.stem not in STEMS or self.grid % self.latent_shape[1]:
            return f"stem {self.stem[:60]!r} on a grid of {self.grid} for latents {self.latent_shape}"
        if self.is_composed and self.stem != "channels":
            return f"a composed convolution with the stem {self.stem}"
        if self.fit is not None and (self.stem != "synthesis" or self.fit.problem()):
            return self.fit.problem() or f"pixels fitted to {self.fit.size}, but the stem {self.stem} makes none"
        return self._problem_of_outputs()

    def _problem_of_sound(self, spectrogram: SpectrogramConfig) -> str | None:
        if self.stem != "synthesis" or self.grid != spectrogram.bands or self.fit is not None:
            return f"stem {self.stem[:60]!r} and a grid of {self.grid} for {spectrogram.bands} mel bands"
        samples = (self.latent_shape[1] - 2 * spectrogram.trim) * spectrogram.block
        columns = spectrogram.hop * spectrogram.columns
        if columns > samples or samples != spectrogram.samples or spectrogram.block not in (1, self.spec.stride):
            return f"{spectrogram.columns} columns of {spectrogram.hop} samples in sounds of {samples}"
        return self._problem_of_outputs()

    def _problem_of_outputs(self) -> str | None:
        if self.label_kind not in LABEL_KINDS:
            return f"labels of kind {self.label_kind[:60]!r}"
        names = self.output_names
        if names is not None and len(names) > self.num_classes:
            return f"{len(names)} class names for {self.num_classes} classes"
        if self.budgets is not None and not (
            self.budgets and all(1 <= count <= self.spec.num_planes for count in self.budgets)
        ):
            return f"budgets of {str(self.budgets)[:60]} of {self.spec.num_planes} bit planes"
        if not (0 <= self.drop_rate < 1 and 0 <= self.drop_path_rate < 1):
            return f"drop rates {self.drop_rate:g} and {self.drop_path_rate:g}, which are not in [0, 1)"
        return None
