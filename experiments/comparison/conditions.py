"""The conditions of a comparison: how samples are stored, and the grid and the stem through which a model sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError

COLORS = {1: "gray", 3: "rgb"}
_REDUCTION = re.compile(r"\d+x")


@dataclass(frozen=True)
class Storage:
    """How images are stored."""

    codec: str
    """The name for `load_codec`."""
    num_bytes: int | None = None
    """Read only this many bytes of each stored sample, of a codec with bit planes; None for all."""


@dataclass(frozen=True)
class ConditionKind:
    """A way of storing images: a row of `KINDS`."""

    name: str
    """The part of a condition's text before the hyphen."""
    storage: Callable[[str, int, int], Storage]
    """Returns how images are stored from the text after the hyphen, the image size in pixels and the number of
    source channels; raises `ValueError`, saying what is wrong, for an invalid text."""
    stems: tuple[str, ...]
    """The stems that a model may have; the first is the default."""
    is_baseline_for: tuple[str, ...] = ()
    """Names of the kinds that are compared with this one."""

    @property
    def is_baseline(self) -> bool:
        """Whether other kinds are compared with this one."""
        return bool(self.is_baseline_for)


@dataclass(frozen=True)
class Condition:
    """One way of storing and presenting the same images."""

    name: str
    """The text of the condition, such as `latents-16x@128:channels`."""
    kind: ConditionKind
    storage: Storage
    stem: str
    grid: int | None
    """Height in pixels of the synthesis; None for as many pixel values as stored values."""


def _resized(side: str, size: int, channels: int) -> Storage:
    if not side.isdecimal() or int(side) < 1 or size % int(side):
        raise ValueError(f"a side of {side} pixels does not divide --size {size}")
    return Storage(f"resize-{COLORS[channels]}-{(size // int(side)) ** 2}x")


def _latents(name: str, size: int, channels: int) -> Storage:
    if Path(name).is_dir():
        return Storage(name)
    if name.isdecimal():
        return Storage(COLORS[channels], int(name))
    return Storage(f"{COLORS[channels]}-{name}" if _REDUCTION.fullmatch(name) else name)


KINDS = {
    kind.name: kind
    for kind in (
        ConditionKind("pixels", _resized, ("synthesis",), is_baseline_for=("latents",)),
        ConditionKind("latents", _latents, ("synthesis", "channels")),
    )
}
_PATTERN = re.compile(rf"({'|'.join(KINDS)})-(.+?)(?:@(\d+))?(?::(synthesis|channels))?")


def find_kind(name: str) -> ConditionKind:
    """Returns the kind of a condition by the condition's name; raises `CallError` for an unknown kind."""
    kind = KINDS.get(name.partition("-")[0])
    if kind is None:
        raise CallError(f"condition {name!r} is of an unknown kind; expected one of {', '.join(KINDS)}")
    return kind


def parse_condition(text: str, *, size: int, channels: int) -> Condition:
    """Parse a condition of a comparison at `size` pixels with `channels` source channels.

    `pixels-64` stores the image resized to 64 pixels; `latents-3072` stores 3,072 bytes of bit planes of the shipped
    codec, `latents-16x` latents of the shipped codec of that reduction with a byte for each value, `latents-FOLDER`
    those of a fitted codec. With `@128` the model sees a grid of
    128 pixels, computed from the same stored values; with `:channels` it takes the latents as channels.
    Raises `CallError` for any other text.
    """
    match = _PATTERN.fullmatch(text)
    if not match:
        raise CallError(
            f"condition {text!r} is invalid; expected pixels-64, pixels-64@128, latents-3072, latents-3072@128, "
            "latents-16x, latents-16x:channels or latents-FOLDER"
        )
    kind, argument, grid = KINDS[match[1]], match[2], int(match[3]) if match[3] else None
    stem = match[4] or kind.stems[0]
    if grid and stem == "channels":
        raise CallError(f"condition {text!r}: @{grid} is the grid of the synthesis stem; `:channels` has no grid")
    if stem not in kind.stems:
        supported = " and ".join(other.name for other in KINDS.values() if stem in other.stems)
        raise CallError(f"condition {text!r}: `:{stem}` is not available for {kind.name}, only for {supported}")
    try:
        storage = kind.storage(argument, size, channels)
    except ValueError as error:
        raise CallError(f"condition {text!r}: {error}") from error
    return Condition(text, kind, storage, stem, grid)
