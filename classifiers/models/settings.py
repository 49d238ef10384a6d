"""`ModelSettings`: the settings of a model that `cdl train` builds."""

from __future__ import annotations

from dataclasses import dataclass

from walloc_cdl.errors import CallError
from walloc_cdl.settings import setting, settings_of
from walloc_cdl.training.config import require_fraction

STEMS = ("synthesis", "channels")


@dataclass(frozen=True)
class ModelSettings:
    """The arguments of `create_model` that have a plain value, and how the data set is read.

    Each setting is defined by its field only: `cdl train` derives its options and a recipe's fields from them. Raises
    `CallError` for values out of range.
    """

    model: str | None = setting(None, "A timm model, such as resnet18 or hf_hub:timm/resnet18.a1_in1k.")
    """Required, here or in a recipe."""
    stem: str = setting("synthesis", "synthesis (pixels made from latents) or channels.", choices=STEMS)
    bytes: int | None = setting(
        None, "Read only this many bytes of each stored sample, of latents with bit planes.", minimum=1
    )
    grid: int | None = setting(
        None, "Height in pixels of the model's input, by default as many values as are stored; of sound, mel bands."
    )
    crop_pct: float | None = setting(
        None,
        "Of pretrained weights at their own size, the share of the image's side that the model sees; by default the "
        "whole image where the grid can have that size, and elsewhere what timm's evaluation crops.",
    )
    crop: str | None = setting(
        None,
        "Of samples that differ in size, the crop in latents that the model takes: 16x16, or 400 of sound.",
        metavar="SIDES",
    )
    budgets: str | None = setting(
        None,
        "Of latents with bit planes, read each sample with a random one of these budgets in bytes, such as "
        "3072,6144,12288, so that one model serves every rate.",
        metavar="BYTES,…",
    )
    drop: float = setting(0.0, "Dropout before the classifier.", check=require_fraction)
    drop_path: float = setting(0.0, "Probability that a residual block is left out.", check=require_fraction)

    def __post_init__(self) -> None:
        for name, each in settings_of(self).items():
            each.require_valid(name, getattr(self, name))

    @property
    def name(self) -> str:
        """The name of the model; raises `CallError` if there is none."""
        if self.model is None:
            raise CallError("no model is named; give --model, such as resnet18, or a recipe that has it")
        return self.model

    @property
    def budget_sizes(self) -> tuple[int, ...] | None:
        """The argument `budgets` of `create_model`; raises `CallError` for text that is none."""
        if self.budgets is None:
            return None
        parts = [part.strip() for part in self.budgets.split(",")]
        if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 for part in parts):
            raise CallError(f"--budgets {self.budgets[:40]!r}; expected numbers of bytes, such as 3072,6144,12288")
        return tuple(int(part) for part in parts)

    @property
    def crop_sides(self) -> tuple[int, ...] | None:
        """The argument `crop` of `create_model`; raises `CallError` for text that is none."""
        if self.crop is None:
            return None
        parts = self.crop.lower().split("x")
        if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 for part in parts):
            raise CallError(
                f"--crop {self.crop[:40]!r}; expected height and width in latents, such as 16x16, or a length"
            )
        return tuple(int(part) for part in parts)
