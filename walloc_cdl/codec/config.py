"""Codec configurations: validated dataclasses, and their representation in `config.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, ClassVar, TypeVar

from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import Fields

FORMAT = "walloc-cdl-codec"
FORMAT_VERSION = 1
HEADER = ("format", "format_version", "type")

MAX_CHANNELS = 65_536
MAX_WIDTH = 65_536
MAX_NAME_LENGTH = 200
MAX_FIT_INFO_BYTES = 65_536
MAX_FIT_INFO_DEPTH = 16

Config = TypeVar("Config", bound="CodecConfig")


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """Everything that defines a codec except its weights; each family adds fields and checks them in `__post_init__`.

    A configuration may come from an untrusted file, so every check tests the type as well.
    """

    type: ClassVar[str]
    """Name of the family in `config.json`."""
    always_written: ClassVar[tuple[str, ...]]
    """Fields that `config.json` must have. Other fields are written only if they differ from their default, so that a
    field added later does not change the files of codecs that do not use it."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `config.json`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        written = {
            name: value for name, value in fields.items() if name in self.always_written or value != defaults[name]
        }
        return {"format": FORMAT, "format_version": FORMAT_VERSION, "type": self.type, **written}

    @classmethod
    def from_json(cls: type[Config], value: dict[str, Any], where: str) -> Config:
        """Return the configuration of the fields that `to_json` returned; raise `DamagedError`, naming `where`, for
        invalid fields and `CallError` for another codec type.
        """
        fields = Fields(value, where)
        known = {*HEADER, *(field.name for field in dataclasses.fields(cls))}
        if wrong := (set(value) - known) | ({*HEADER, *cls.always_written} - set(value)):
            shown = str(sorted(wrong))[:100]
            raise DamagedError(f"{where}: missing or unknown fields {shown}; expected {', '.join(sorted(known))}")
        if fields.text("type") != cls.type:
            raise CallError(
                f"{where}: codec type {shortened(fields.text('type'))}; expected {cls.type!r}; use load_codec"
            )
        try:
            return cls(**{name: value[name] for name in value if name not in HEADER})
        except CallError as error:
            raise DamagedError(f"{where}: {error}") from error


def require_between(value: Any, low: int, high: int, what: str) -> None:
    """Raise `CallError` unless `value` is an integer, not a bool, from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise CallError(f"{shortened(value)} {what}; expected {low:,} to {high:,}")


def require_choice(value: Any, choices: Collection[str], what: str) -> None:
    """Raise `CallError` unless `value` is one of the strings `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise CallError(f"{what} {shortened(value)}; expected {' or '.join(map(repr, choices))}")


def require_bool(value: Any, what: str) -> None:
    """Raise `CallError` unless `value` is true or false."""
    if type(value) is not bool:
        raise CallError(f"{what} {shortened(value)}; expected true or false")


def require_name(value: Any) -> None:
    """Raise `CallError` unless `value` is a string that fits into a table and a message of one line."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise CallError(f"a codec called {shortened(value)}; expected 1 to {MAX_NAME_LENGTH} printable characters")


def require_fit_info(value: Any) -> None:
    """Raise `CallError` unless `value`, which describes the fit of the weights, is a small JSON object."""
    if not isinstance(value, dict) or _depth(value) > MAX_FIT_INFO_DEPTH:
        raise CallError(f"fit {shortened(value)}; expected a JSON object of at most {MAX_FIT_INFO_DEPTH} levels")
    try:
        size = len(canonical_json(value))
    except (TypeError, ValueError) as error:
        raise CallError(f"fit cannot be written as JSON ({error}); expected finite numbers and texts") from error
    if size > MAX_FIT_INFO_BYTES:
        raise CallError(f"fit of {size:,} bytes; expected at most {MAX_FIT_INFO_BYTES:,}")


def shortened(value: Any) -> str:
    """Return the `repr` of a value for a message, cut after 60 characters."""
    # Python refuses to convert a huge integer to decimal, and the repr of a nested list may be long.
    text = repr(value) if isinstance(value, (str, float, bool, type(None))) else _bounded(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _bounded(value: Any) -> str:
    if type(value) is int:
        return str(value) if value.bit_length() <= 200 else f"an integer of {value.bit_length()} bits"
    return f"a {type(value).__name__}"


def _depth(value: Any, depth: int = 1) -> int:
    if depth > MAX_FIT_INFO_DEPTH or not isinstance(value, (dict, list)):
        return depth
    members = value.values() if isinstance(value, dict) else value
    return max((_depth(member, depth + 1) for member in members), default=depth)
