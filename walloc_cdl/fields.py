"""Validated reading of untrusted JSON: the type and range of every field are checked before it is used."""

from __future__ import annotations

import re
import reprlib
from typing import Any

from walloc_cdl.errors import DamagedError

REMEDY = "restore the folder from a copy or prepare it again"
"""The remedy for damaged data, which ends every message about it."""

MAX_INTEGER = 2**63 - 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")

_SHORT = reprlib.Repr()
"""Shortens values that would be cut anyway, without writing all of a long one first."""
_SHORT.maxlist = _SHORT.maxdict = 30
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 1000


def is_plain_path(path: str) -> bool:
    """Return whether `path` is relative, and its parts consist of letters, digits, `_`, `.`, `-`, none starting with
    `.` or `-`, each at most 255 long, which file systems allow.
    """
    return len(path) < 4096 and all(len(part) < 256 and _PATH_PART.fullmatch(part) for part in path.split("/"))


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


def damaged(where: str, value: Any, expected: str, remedy: str = REMEDY) -> DamagedError:
    """Return the error for a field: where it is, its value, and what was expected."""
    return DamagedError(f"{where}: found {shorten(value)}, expected {expected}; {remedy}")


def shorten(value: Any, max_chars: int = 60) -> str:
    """Return the `repr` of a JSON value for a message, cut after `max_chars`; a long one is not built first.

    >>> shorten("a" * 1000) == f"'{'a' * 59}…"
    True
    """
    shown = _SHORT.repr(value)
    return shown if len(shown) <= max_chars else shown[:max_chars] + "…"
