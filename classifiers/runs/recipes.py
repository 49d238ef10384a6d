"""Recipes of training runs: TOML files with the settings of the model, its training and its augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifiers.models.settings import ModelSettings
from classifiers.runs.train_config import TrainConfig
from walloc_cdl.augment.config import PRESETS, SOUND_PRESETS, AugmentConfig, SpectrogramAugmentConfig
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.settings import format_recipe, load_recipe, plain_values, settings_of, typed_values
from walloc_cdl.transforms.config import LATENT_PRESETS, LatentTransformConfig

FURTHER_FIELDS = ("pretrained", "validation", "augment")
"""Fields of a recipe beside the settings of `ModelSettings` and `TrainConfig`."""


@dataclass(frozen=True)
class Recipe:
    """Everything that `cdl train` needs beside the data set: a recipe's fields, replaced by options that were given."""

    model: ModelSettings
    training: dict[str, Any]
    """Fields of `TrainConfig`, without `augment`."""
    pretrained: str | bool = False
    """Whether to load published weights, or the file that has them."""
    validation: str | None = None
    """Split to evaluate on; None for the usual one."""
    augment: str | dict[str, Any] | None = None
    """A preset, a file or the fields of `AugmentConfig`; None for the usual preset."""

    @classmethod
    def build(cls, path: Path | None, given: Mapping[str, Any]) -> Recipe:
        """Read a recipe, if there is one, and replace what was given; raises `CallError` for a wrong field or value."""
        fields = {} if path is None else load_recipe(path, known_fields())
        origin = str(path)
        values = {**typed_values(ModelSettings, fields, origin), **typed_values(TrainConfig, _plain(fields), origin)}
        for name, kinds in (("pretrained", (str, bool)), ("validation", (str,)), ("augment", (str, dict))):
            if name in fields and not isinstance(fields[name], kinds):
                expected = " or ".join(
                    {str: "a string", bool: "true or false", dict: "a table"}[kind] for kind in kinds
                )
                raise CallError(f"{origin}, {name}: found {fields[name]!r}, expected {expected}; change it")
            if name in fields:
                values[name] = fields[name]
        values |= given
        model = {each.name: values.pop(each.name) for each in dataclasses.fields(ModelSettings) if each.name in values}
        further = {name: values.pop(name) for name in FURTHER_FIELDS if name in values}
        return cls(ModelSettings(**model), values, **further)

    def config(self, kind: str) -> TrainConfig:
        """Returns the configuration for latents of a kind, `image` or `audio`; raises `CallError` as it does."""
        name = ("light" if self.model.stem == "synthesis" else "none") if self.augment is None else self.augment
        return TrainConfig(**self.training, augment=augmentation(name, kind, self.model.stem))

    def to_text(self, config: TrainConfig) -> str:
        """Returns the whole recipe as TOML; `config` is the result of `config`."""
        helps = {name: each.help for part in (ModelSettings, TrainConfig) for name, each in settings_of(part).items()}
        fields = plain_values(self.model)
        if self.pretrained:
            fields["pretrained"] = self.pretrained
        if self.validation is not None:
            fields["validation"] = self.validation
        fields |= plain_values(config)
        presets = (PRESETS, SOUND_PRESETS, LATENT_PRESETS)
        name = next((name for each in presets for name, value in each.items() if value == config.augment), None)
        if name is not None:
            fields["augment"] = name
        helps["augment"] = "none, light, timm, or a table of settings."
        return format_recipe(fields, helps, heading=("Settings of a training run: cdl train DIR --recipe FILE",))


def known_fields() -> list[str]:
    """Returns the names of a recipe's fields."""
    settings = [each.name for part in (ModelSettings, TrainConfig) for each in dataclasses.fields(part)]
    return list(dict.fromkeys([*settings, *FURTHER_FIELDS]))


def augmentation(
    value: str | dict[str, Any], kind: str, stem: str = "synthesis"
) -> AugmentConfig | SpectrogramAugmentConfig | LatentTransformConfig:
    """Returns the augmentation of a preset's name, a TOML file of its settings or a table of them.

    Raises `CallError` for anything else. `kind` is that of the latents, `image` or `audio`; with the stem `channels`,
    the latents of images are transformed.
    """
    presets: Mapping[str, Any] = SOUND_PRESETS if kind == "audio" else PRESETS
    cls: type = SpectrogramAugmentConfig if kind == "audio" else AugmentConfig
    if kind == "image" and stem == "channels":
        presets, cls = {"none": PRESETS["none"], **LATENT_PRESETS}, LatentTransformConfig
    if isinstance(value, str) and value in presets:
        return presets[value]
    known, origin = [each.name for each in dataclasses.fields(cls)], "augment"
    if isinstance(value, str):
        if not value.endswith(".toml"):
            raise unknown_name("augmentation", value, presets, f"choose one of {', '.join(presets)}, or a .toml file")
        value, origin = load_recipe(Path(value).expanduser(), known), value
    for name in value:
        if name not in known:
            raise unknown_name("setting of augment:", name, known, f"known are {', '.join(known)}")
    return cls(**typed_values(cls, value, origin))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "augment"}
