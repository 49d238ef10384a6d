"""What is compared: how each sample is stored, and on what grid and through which stem a model sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError

COLORS = {1: "gray", 3: "rgb"}
_REDUCTION = re.compile(r"\d+x")


@dataclass(frozen=True)
class ConditionKind:
    """A way of storing images: a row of `KINDS`."""

    name: str
    """What a condition's text begins with, before the hyphen."""
    codec_name: Callable[[str, int, int], str]
    """What `load_codec` takes, of what stands behind the hyphen, the pixels a side and the source channels; raises
    `ValueError` with what is wrong."""
    stems: tuple[str, ...]
    """How a model may see what is stored; the first is meant where none is named."""
    is_baseline_for: tuple[str, ...] = ()
    """Names of the kinds that are judged by their difference to this one."""

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with this one, and it with none."""
        return bool(self.is_baseline_for)


@dataclass(frozen=True)
class Condition:
    """One way of storing and presenting the same images."""

    name: str
    """As it was asked for, `latents-16x@128:channels`."""
    kind: ConditionKind
    codec: str
    """What `load_codec` takes."""
    stem: str
    grid: int | None
    """Pixels a side that the synthesis makes; None: as many pixel values as stored values."""


def _resize_codec(side: str, size: int, channels: int) -> str:
    if not side.isdecimal() or int(side) < 1 or size % int(side):
        raise ValueError(f"{side} pixels a side is not a whole fraction of --size {size}")
    return f"resize-{COLORS[channels]}-{(size // int(side)) ** 2}x"


def _latent_codec(what: str, size: int, channels: int) -> str:
    return f"{COLORS[channels]}-{what}" if _REDUCTION.fullmatch(what) and not Path(what).is_dir() else what


KINDS = {
    kind.name: kind
    for kind in (
        ConditionKind("pixels", _resize_codec, ("synthesis",), is_baseline_for=("latents",)),
        ConditionKind("latents", _latent_codec, ("synthesis", "channels")),
    )
}
_FORM = re.compile(rf"({'|'.join(KINDS)})-(.+?)(?:@(\d+))?(?::(synthesis|channels))?")


def kind_of(name: str) -> ConditionKind:
    """The kind of the condition of this name; `CallError` for a name that is none's."""
    kind = KINDS.get(name.partition("-")[0])
    if kind is None:
        raise CallError(f"condition {name!r} is of no kind that is known; expected one of {', '.join(KINDS)}")
    return kind


def parse_condition(text: str, *, size: int, channels: int) -> Condition:
    """Read one condition of a comparison at `size` pixels with `channels` source channels.

    `pixels-64` stores the image resized to 64 pixels; `latents-16x` stores latents of the shipped
    codec of that reduction, `latents-FOLDER` those of a fitted one. `@128` puts the model on a grid of
    128 pixels made from the same stored values; `:channels` feeds latents as channels instead.
    Raises `CallError` for anything else.
    """
    match = _FORM.fullmatch(text)
    if not match:
        raise CallError(
            f"condition {text!r} is not understood; expected pixels-64, pixels-64@128, latents-16x, latents-16x@128, "
            "latents-16x:channels or latents-FOLDER"
        )
    kind, what, grid = KINDS[match[1]], match[2], int(match[3]) if match[3] else None
    stem = match[4] or kind.stems[0]
    if grid and stem == "channels":
        raise CallError(f"condition {text!r}: @{grid} is the grid of the synthesis stem; `:channels` has none")
    if stem not in kind.stems:
        others = " and ".join(other.name for other in KINDS.values() if stem in other.stems)
        raise CallError(f"condition {text!r}: {kind.name} are presented as they are; `:{stem}` is for {others}")
    try:
        codec = kind.codec_name(what, size, channels)
    except ValueError as error:
        raise CallError(f"condition {text!r}: {error}") from error
    return Condition(text, kind, codec, stem, grid)
