"""What is compared: how each sample is stored, and on what grid and through which stem a model sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError

PATTERN = re.compile(r"(pixels|latents)-(.+?)(?:@(\d+))?(?::(synthesis|channels))?")
REDUCTION = re.compile(r"\d+x")
COLORS = {1: "gray", 3: "rgb"}


@dataclass(frozen=True)
class Condition:
    """One way of storing and presenting the same images."""

    name: str
    """As it was asked for, `latents-16x@128:channels`."""
    codec: str
    """What `load_codec` takes."""
    stem: str
    grid: int | None
    """Pixels a side that the synthesis makes; None: as many pixel values as stored values."""

    @property
    def is_pixels(self) -> bool:
        """Whether this is resolution reduction, the baseline."""
        return self.name.startswith("pixels-")


def parse_condition(text: str, *, size: int, channels: int) -> Condition:
    """Read one condition of a comparison at `size` pixels with `channels` source channels.

    `pixels-64` stores the image resized to 64 pixels; `latents-16x` stores latents of the shipped
    codec of that reduction, `latents-FOLDER` those of a fitted one. `@128` puts the model on a grid of
    128 pixels made from the same stored values; `:channels` feeds latents as channels instead.
    Raises `CallError` for anything else.
    """
    match = PATTERN.fullmatch(text)
    if not match:
        raise CallError(
            f"condition {text!r} is not understood; expected pixels-64, pixels-64@128, latents-16x, latents-16x@128, "
            "latents-16x:channels or latents-FOLDER"
        )
    kind, what, grid, stem = match[1], match[2], int(match[3]) if match[3] else None, match[4] or "synthesis"
    if grid and stem == "channels":
        raise CallError(f"condition {text!r}: @{grid} is the grid of the synthesis stem; `:channels` has none")
    if kind == "pixels":
        return Condition(text, _resize_name(text, what, stem, size, channels), stem, grid)
    codec = f"{COLORS[channels]}-{what}" if REDUCTION.fullmatch(what) and not Path(what).is_dir() else what
    return Condition(text, codec, stem, grid)


def _resize_name(text: str, side: str, stem: str, size: int, channels: int) -> str:
    if stem == "channels":
        raise CallError(f"condition {text!r}: pixels are presented as they are; `:channels` is for latents")
    if not side.isdecimal() or int(side) < 1 or size % int(side):
        raise CallError(f"condition {text!r}: {side} pixels a side is not a whole fraction of --size {size}")
    return f"resize-{COLORS[channels]}-{(size // int(side)) ** 2}x"
