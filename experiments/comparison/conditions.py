"""The conditions of a comparison: how samples are stored, and the grid and the stem through which a model sees them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from walloc_cdl.errors import CallError

COLORS = {1: "gray", 3: "rgb"}
"""The shipped codec with bit planes, by the number of source channels; also the beginning of names of other codecs."""
DEFAULT_GRID = 64
SMALLEST_SIDE = 16
_REDUCTION = re.compile(r"\d+x")
_PREFIX = re.compile(r"(.+)\+(\d+)")


@dataclass(frozen=True)
class Setting:
    """What the conditions of a comparison share."""

    size: int
    """Side in pixels of the full images."""
    channels: int
    codec: str | None = None
    """The codec of `latents-BYTES`; None for the shipped one."""
    grid: int | None = None
    """Side in pixels of the grid of conditions that name none."""


@dataclass(frozen=True)
class Storage:
    """How images are stored."""

    codec: str | None
    """The name for `load_codec`; None for files."""
    num_bytes: int | None = None
    """Read only this many bytes of each stored sample, of a codec with bit planes; None for all. Of files, at most as
    many bytes for each."""
    file_format: str | None = None
    """A format of `stored_forms.FILE_FORMATS`."""
    is_full: bool = False
    """Whether the full images are meant. A codec then stores what a model sees of them on its grid."""


@dataclass(frozen=True)
class ConditionKind:
    """A way of storing images: a row of `KINDS`."""

    name: str
    """The part of a condition's text before the hyphen."""
    title: str
    """What people call images that are stored so, such as `latents`."""
    storage: Callable[[str, Setting], Storage]
    """Returns how images are stored from the text after the hyphen; raises `ValueError`, saying what is wrong, for an
    invalid text."""
    stems: tuple[str, ...] = ("synthesis",)
    """The stems that a model may have; the first is the default."""
    is_baseline_for: tuple[str, ...] = ()
    """Names of the kinds that are compared with this one."""
    is_reference: bool = False
    """Whether it is shown beside the others for orientation, and is no way of storing that an answer proposes."""
    can_train: bool = True
    """Whether models are trained on it; probes take every kind."""

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


def _full(text: str, setting: Setting) -> Storage:
    if text:
        raise ValueError(f"the full images take no {text!r}; write full, or full@64")
    grid = setting.grid or setting.size
    if setting.size % grid:
        raise ValueError(f"a grid of {grid} pixels does not divide --size {setting.size}")
    return Storage(f"resize-{COLORS[setting.channels]}-{(setting.size // grid) ** 2}x", is_full=True)


def _resized(side: str, setting: Setting) -> Storage:
    if not side.isdecimal() or int(side) < 1 or setting.size % int(side):
        raise ValueError(f"a side of {side} pixels does not divide --size {setting.size}")
    return Storage(f"resize-{COLORS[setting.channels]}-{(setting.size // int(side)) ** 2}x")


def _latents(name: str, setting: Setting) -> Storage:
    if Path(name).is_dir():
        return Storage(name)
    if name.isdecimal():
        return Storage(setting.codec or COLORS[setting.channels], int(name))
    if prefix := _PREFIX.fullmatch(name):
        return Storage(prefix[1], int(prefix[2]))
    return Storage(f"{COLORS[setting.channels]}-{name}" if _REDUCTION.fullmatch(name) else name)


def _jpeg(text: str, setting: Setting) -> Storage:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is no number of bytes; write jpeg-3072")
    return Storage(None, int(text), file_format="jpeg")


KINDS = {
    kind.name: kind
    for kind in (
        ConditionKind("full", "full images", _full, is_reference=True),
        ConditionKind("pixels", "pixels", _resized, is_baseline_for=("latents",)),
        ConditionKind("latents", "latents", _latents, ("synthesis", "channels")),
        ConditionKind("jpeg", "JPEG files", _jpeg, is_reference=True, can_train=False),
    )
}
_PATTERN = re.compile(rf"({'|'.join(KINDS)})(?:-(.+?))?(?:@(\d+))?(?::(synthesis|channels))?")
EXAMPLES = (
    "full, pixels-64, pixels-64@128, latents-3072, latents-3072@128, latents-16x, latents-16x:channels, jpeg-3072, "
    "latents-FOLDER or latents-CODEC+3072"
)


def find_kind(name: str) -> ConditionKind:
    """Returns the kind of a condition by the condition's name; raises `CallError` for an unknown kind."""
    kind = KINDS.get(re.split(r"[-@:]", name, maxsplit=1)[0])
    if kind is None:
        raise CallError(f"condition {name!r} is of an unknown kind; expected one of {', '.join(KINDS)}")
    return kind


def parse_condition(text: str, setting: Setting) -> Condition:
    """Parse a condition of a comparison.

    `full` are the full images, as a model sees them on its grid; `pixels-64` stores the image resized to 64 pixels;
    `latents-3072` stores 3,072 bytes of bit planes of the shipped codec (`latents-CODEC+3072` those of another one),
    `latents-16x` latents of the shipped codec of that reduction with a byte for each value, `latents-FOLDER` those of a
    fitted codec; `jpeg-3072` stores a JPEG file of at most so many bytes. With `@128` the model sees a grid of
    128 pixels, computed from the same stored values; with `:channels` it takes the latents as channels.
    Raises `CallError` for any other text.
    """
    match = _PATTERN.fullmatch(text)
    if not match or (match[2] is None and match[1] != "full"):
        raise CallError(f"condition {text!r} is invalid; expected {EXAMPLES}")
    kind, argument, grid = KINDS[match[1]], match[2] or "", int(match[3]) if match[3] else None
    stem = match[4] or kind.stems[0]
    if grid and stem == "channels":
        raise CallError(f"condition {text!r}: @{grid} is the grid of the synthesis stem; `:channels` has no grid")
    if stem not in kind.stems:
        supported = " and ".join(other.name for other in KINDS.values() if stem in other.stems)
        raise CallError(f"condition {text!r}: `:{stem}` is not available for {kind.name}, only for {supported}")
    grid = grid or (setting.grid if stem == "synthesis" else None)
    try:
        storage = kind.storage(argument, dataclasses.replace(setting, grid=grid))
    except ValueError as error:
        raise CallError(f"condition {text!r}: {error}") from error
    return Condition(text, kind, storage, stem, grid)


def default_conditions(size: int, channels: int, *, largest_side: int) -> tuple[str, ...]:
    """Returns the curve that a comparison draws by default: the full images, and both kinds at equal bytes.

    Sides double from 16 pixels, as long as they are below `largest_side` and divide `size`; latents have the bytes of
    each. For 256 pixels of RGB and a `largest_side` of 256 these are 768, 3,072, 12,288 and 49,152 bytes.
    """
    sides = []
    side = SMALLEST_SIDE
    while side < largest_side and size % side == 0:
        sides.append(side)
        side *= 2
    if not sides:
        raise CallError(
            f"images of {size} pixels have no smaller forms to compare below {largest_side} pixels a side; give "
            "--conditions"
        )
    return ("full", *(text for side in sides for text in (f"pixels-{side}", f"latents-{channels * side**2}")))
