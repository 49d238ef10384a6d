"""Sealed JSON: an object that carries, as its field `digest`, the SHA-256 of the rest in canonical form.

The text is laid out for people, the digest is taken of the canonical form, so neither hinders the other.
"""

from __future__ import annotations

from typing import Any

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY, parse_json


def encode_json_with_digest(fields: dict[str, Any]) -> bytes:
    """The file that holds `fields` and their digest; the same fields give the same bytes.

    >>> print(encode_json_with_digest({"b": [1, 2], "a": {"c": [3]}}).decode(), end="")
    {
     "a": {
      "c": [3]
     },
     "b": [1,2],
     "digest": "861558966a7fb446a09e28998dc712edaf5b2e82160608d68d79f3707fbf3f7f"
    }
    """
    sealed = {**fields, "digest": sha256_hex(canonical_json(fields))}
    return (_layout(sealed, "") + "\n").encode("utf-8")


def parse_json_with_digest(data: bytes, *, origin: str) -> dict[str, Any]:
    """Inverse of `encode_json_with_digest`; raises `DamagedError`, naming `origin`, for anything but an object
    whose digest fits."""
    try:
        fields = parse_json(data)
    except ValueError as error:
        raise DamagedError(f"{origin}: not readable as JSON ({error}); {REMEDY}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("digest"), str):
        raise DamagedError(f"{origin}: has no digest; {REMEDY}")
    stated = fields.pop("digest")
    try:
        found = sha256_hex(canonical_json(fields))
    except ValueError as error:  # lone surrogates, infinities written as 1e999
        raise DamagedError(f"{origin}: holds what canonical JSON cannot ({error}); {REMEDY}") from error
    if found != stated:
        raise DamagedError(f"{origin}: digest is {found[:12]}…, expected {stated[:12]}…; {REMEDY}")
    return fields


def _layout(value: Any, indent: str) -> str:
    """One item a line for containers that hold containers; canonical form for the rest."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    if not any(isinstance(item, (dict, list, tuple)) for item in items):
        return canonical_json(value).decode("utf-8")
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [
            f"{canonical_json(name).decode('utf-8')}: {_layout(item, deeper)}" for name, item in sorted(value.items())
        ]
    else:
        lines = [_layout(item, deeper) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"
