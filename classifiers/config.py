"""`ClassifierConfig`: everything that is needed to rebuild a classifier without its data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from walloc_cdl.errors import CallError
from walloc_cdl.spec import LatentSpec

STEMS = ("synthesis", "channels")


@dataclass(frozen=True)
class ClassifierConfig:
    """The structure of a classifier; its weights, synthesis and statistics are saved with the model."""

    name: str
    """A timm model, with or without a tag, such as `resnet18` or `vit_tiny_patch16_224.augreg_in21k`."""
    stem: str
    """`synthesis` or `channels`."""
    grid: int
    """Height of the pixel grid that the timm model sees; with the `channels` stem, of the pixel model whose feature
    maps are matched."""
    alpha: float
    """Exponent of the scaling in `ModelInput`."""
    num_classes: int
    spec: LatentSpec
    latent_shape: tuple[int, int, int]
    """(K, h, w)."""
    class_names: tuple[str, ...] | None = None
    pretrained: bool = False
    """Whether training started from published weights."""
    patch_size: int | None = None
    """Side of a patch in pixels, where it differs from the timm model's default."""
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0

    @property
    def block(self) -> int:
        """Side in pixels that one latent covers on the grid, b."""
        return self.grid // self.latent_shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the pixel grid."""
        return self.latent_shape[1] * self.block, self.latent_shape[2] * self.block

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for canonical JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "spec": self.spec.to_json(),
            "latent_shape": list(self.latent_shape),
            "class_names": None if self.class_names is None else list(self.class_names),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ClassifierConfig:
        """Inverse of `to_json`; raises `CallError` for missing or unknown fields and for invalid values."""
        wrong = {field.name for field in dataclasses.fields(cls)} ^ set(fields)
        if wrong:
            raise CallError(f"classifier configuration with missing or unknown fields {sorted(wrong)}")
        class_names = fields["class_names"]
        config = cls(
            **{
                **fields,
                "spec": LatentSpec.from_json(fields["spec"]),
                "latent_shape": tuple(fields["latent_shape"]),
                "class_names": None if class_names is None else tuple(class_names),
            }
        )
        sizes = (*config.latent_shape, config.grid, config.num_classes)
        if len(config.latent_shape) != 3 or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise CallError(f"latent shape {config.latent_shape}, grid {config.grid}, {config.num_classes} classes")
        if config.stem not in STEMS or config.grid % config.latent_shape[1]:
            raise CallError(f"stem {config.stem!r} on a grid of {config.grid} for latents {config.latent_shape}")
        return config
