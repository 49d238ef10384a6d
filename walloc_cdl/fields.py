"""Validated reading of untrusted JSON: the type and range of every field are checked before it is used."""

from __future__ import annotations

import json
import re
from typing import Any

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.spec import LatentSpec

REMEDY = "restore the folder from a copy or prepare it again"
"""The remedy for damaged data, which ends every message about it."""

MAX_INTEGER = 2**63 - 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


def is_plain_path(path: str) -> bool:
    """Return whether `path` is relative, and its parts consist of letters, digits, `_`, `.`, `-`, none starting with
    `.` or `-`.
    """
    return all(_PATH_PART.fullmatch(part) for part in path.split("/"))


def sanitize_path_part(name: str) -> str:
    """Return `name` as a part of a plain path: letters, digits, `_`, `.`, `-`, not beginning with `.` or `-`.

    >>> sanitize_path_part("été 1.jpg")
    '_t__1.jpg'
    """
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".-") or "_"


class Fields:
    """An untrusted JSON object; each reader raises `DamagedError` unless the field has the expected type."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise damaged(where, value, "an object")
        self.values = value
        self.where = where

    def require_names(self, names: set[str]) -> None:
        """Raise `DamagedError` unless the fields are exactly `names`."""
        if wrong := names ^ set(self.values):
            raise DamagedError(f"{self.where}: missing or unknown fields {sorted(wrong)}; {REMEDY}")

    def get(self, name: str) -> Any:
        """Return the unchecked value."""
        if name not in self.values:
            raise DamagedError(f"{self.where}: field {name!r} is missing; {REMEDY}")
        return self.values[name]

    def integer(self, name: str, minimum: int = 0) -> int:
        """Return an integer of at least `minimum` that fits int64."""
        return require_integer(self.get(name), f"{self.where}, {name}", minimum)

    def optional_integer(self, name: str, minimum: int = 0) -> int | None:
        """Return an integer as `integer` does, or None for null."""
        return None if self.get(name) is None else self.integer(name, minimum)

    def text(self, name: str) -> str:
        """Return a string."""
        return require_text(self.get(name), f"{self.where}, {name}")

    def sha256(self, name: str) -> str:
        """Return a string of 64 lower-case hexadecimal digits."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise damaged(f"{self.where}, {name}", value, "a SHA-256 of 64 hexadecimal digits")
        return value

    def path(self, name: str, *, parts: bool = False) -> str:
        """Return a plain relative path; `/` is allowed only if `parts` is true."""
        return require_path(self.get(name), f"{self.where}, {name}", parts=parts)

    def items(self, name: str) -> list[Any]:
        """Return an array."""
        value = self.get(name)
        if not isinstance(value, list):
            raise damaged(f"{self.where}, {name}", value, "an array")
        return value

    def object(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self.get(name), f"{self.where}, {name}")

    def spec(self, name: str) -> LatentSpec:
        """Return a `LatentSpec`."""
        fields = self.object(name)
        texts = {field: fields.text(field) for field in ("codec_id", "kind", "companding")}
        counts = {field: fields.integer(field) for field in ("source_channels", "latent_channels", "stride", "bits")}
        extra = fields.integer("extra_frames")
        rate = fields.optional_integer("sample_rate")
        fields.require_names({*texts, *counts, "extra_frames", "sample_rate"})
        try:
            return LatentSpec(**texts, **counts, extra_frames=extra, sample_rate=rate)
        except CallError as error:
            raise DamagedError(f"{fields.where}: {error}; {REMEDY}") from error


def require_integer(value: Any, where: str, minimum: int = 0) -> int:
    """Return `value` if it is an integer from `minimum` to `MAX_INTEGER`; `DamagedError` otherwise."""
    if type(value) is not int or not minimum <= value <= MAX_INTEGER:  # bool is an int, so compare the type itself
        raise damaged(where, value, f"an integer of at least {minimum}")
    return value


def require_text(value: Any, where: str) -> str:
    """Return `value` if it is a string; `DamagedError` otherwise."""
    if not isinstance(value, str):
        raise damaged(where, value, "a string")
    return value


def require_path(value: Any, where: str, *, parts: bool = False) -> str:
    """Return `value` if it is a plain relative path, of one part unless `parts`; `DamagedError` otherwise."""
    if not isinstance(value, str) or not is_plain_path(value) or (not parts and "/" in value):
        raise damaged(where, value, "a plain relative file name inside the folder")
    return value


def damaged(where: str, value: Any, expected: str) -> DamagedError:
    """Return the error for a field: where it is, its value, and what was expected."""
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:60] + "…"
    return DamagedError(f"{where}: found {shown}, expected {expected}; {REMEDY}")


def parse_json(data: bytes, *, allow_nan: bool = False) -> Any:
    """Parse strict JSON from untrusted bytes; raise `ValueError` also for repeated names and too deep nesting.

    NaN and infinities, which Python writes and JSON does not have, raise it, too, unless `allow_nan` is true.
    """
    constants = None if allow_nan else _refuse_constant
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=constants)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return fields


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")
