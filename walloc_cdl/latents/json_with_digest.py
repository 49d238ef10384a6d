"""JSON with a digest: an object whose field `digest` holds the SHA-256 of its other fields in canonical form.

The text is formatted for people and the digest is computed from the canonical form, so neither constrains the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.fields import REMEDY
from walloc_cdl.json_files import MAX_JSON_BYTES, parse_json, read_limited


def encode_json_with_digest(fields: dict[str, Any]) -> bytes:
    """Return the content of a file that holds `fields` and their digest; equal fields give equal bytes.

    >>> print(encode_json_with_digest({"b": [1, 2], "a": {"c": [3]}}).decode(), end="")
    {
     "a": {
      "c": [3]
     },
     "b": [1,2],
     "digest": "861558966a7fb446a09e28998dc712edaf5b2e82160608d68d79f3707fbf3f7f"
    }
    """
    with_digest = {**fields, "digest": sha256_hex(canonical_json(fields))}
    return (_format(with_digest, "") + "\n").encode("utf-8")


def read_json_with_digest(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a file of at most `max_bytes` that `encode_json_with_digest` made; returns the fields without their digest.

    Raises `DamagedError` if it is larger, or not an object with a matching digest; `OSError` if it cannot be read.
    """
    return parse_json_with_digest(read_limited(path, max_bytes), origin=str(path))


def parse_json_with_digest(data: bytes, *, origin: str) -> dict[str, Any]:
    """Return the fields without their digest: the inverse of `encode_json_with_digest`.

    Raises `DamagedError`, naming `origin`, unless `data` is an object with a matching digest.
    """
    try:
        fields = parse_json(data)
    except ValueError as error:
        raise DamagedError(f"{origin}: not readable as JSON ({one_line(error)}); {REMEDY}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("digest"), str):
        raise DamagedError(f"{origin}: has no digest; {REMEDY}")
    stated = fields.pop("digest")
    if (found := sha256_hex(canonical_json(fields))) != stated:
        raise DamagedError(f"{origin}: digest is {found[:12]}…, expected {stated[:12]}…; {REMEDY}")
    return fields


def _format(value: Any, indent: str) -> str:
    """Format containers of containers with one item per line, and all other values in canonical form."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    if not any(isinstance(item, (dict, list, tuple)) for item in items):
        return canonical_json(value).decode("utf-8")
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [
            f"{canonical_json(name).decode('utf-8')}: {_format(item, deeper)}" for name, item in sorted(value.items())
        ]
    else:
        lines = [_format(item, deeper) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"
