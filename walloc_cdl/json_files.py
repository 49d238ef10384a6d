"""Reading of untrusted JSON: its size, depth, numbers and names are limited before anything is built from it.

`Fields` and `from_json` then check the types of the values. msgspec, which does both, was tried in their place: its
messages lack the value that was found, and it accepts repeated names, integers beyond 64 bits and, in dataclasses,
unknown fields, so that the code would not get shorter.
"""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.fields import REMEDY

MAX_JSON_BYTES = 1 << 24
"""Larger files are refused, unless their format allows more."""

MAX_DEPTH = 64
"""Of arrays and objects in one another; functions that call themselves for each level must not exceed the stack."""

FREE_CONTAINERS = 1 << 16
CONTAINER_BYTES = 32
"""A file may have `FREE_CONTAINERS` arrays and objects, and one more for each `CONTAINER_BYTES` of it: an empty one
takes two bytes in the file, but up to 216 in memory."""

_CHUNK_BYTES = 1 << 20
_DEPTH_CHANGES = np.zeros(256, np.int8)
_DEPTH_CHANGES[[*b"[{"]], _DEPTH_CHANGES[[*b"]}"]] = 1, -1


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES, remedy: str = REMEDY) -> Any:
    """Read a JSON file of at most `max_bytes`.

    Raises `DamagedError`, in one line that ends in `remedy`, for a larger file and for what `parse_json` refuses, and
    `OSError` for a file that cannot be read.
    """
    data = read_limited(path, max_bytes, remedy=remedy)
    try:
        return parse_json(data)
    except ValueError as error:
        raise DamagedError(f"{path}: not readable as JSON ({one_line(error)}); {remedy}") from error


def read_limited(path: Path, max_bytes: int, *, remedy: str = REMEDY) -> bytes:
    """Return the content of a regular file of at most `max_bytes`; `DamagedError` for any other."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe could wait forever
        raise DamagedError(f"{path}: not a regular file; {remedy}")
    if (found := status.st_size) > max_bytes:
        raise DamagedError(f"{path}: {found:,} bytes, expected at most {max_bytes:,}; {remedy}")
    with path.open("rb") as file:
        return file.read(found)


def parse_json(data: bytes, *, allow_nan: bool = False) -> Any:
    """Parse strict JSON from untrusted bytes, in memory of at most 16 times their size and some 16 MB.

    Raises `ValueError` for invalid JSON, and also for NaN and infinities, numbers beyond 64 bits, repeated names, lone
    surrogates, nesting deeper than `MAX_DEPTH` and very many arrays and objects. `allow_nan` allows NaN and infinities,
    which Python writes and JSON does not have.
    """
    _require_shallow(data)
    text = data.decode("utf-8")
    value = json.loads(
        text,
        object_pairs_hook=_unique_names,
        parse_constant=None if allow_nan else _refuse_constant,
        parse_int=_bounded_integer,
        parse_float=_finite_number,
    )
    if "\\u" in text:
        _require_unicode(value)
    return value


def _require_shallow(data: bytes) -> None:
    """Raise `ValueError` for too deep nesting and too many arrays and objects, without parsing."""
    limit = FREE_CONTAINERS + len(data) // CONTAINER_BYTES
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # so that every other quotation mark ends a string
    num_quotes = num_containers = depth = 0
    for start in range(0, len(data), _CHUNK_BYTES):
        chunk = np.frombuffer(data, np.uint8)[start : start + _CHUNK_BYTES]
        quotes = num_quotes + np.cumsum(chunk == ord('"'), dtype=np.int32)
        changes = np.where(quotes % 2, 0, _DEPTH_CHANGES[chunk])
        depths = depth + np.cumsum(changes, dtype=np.int32)
        if depths.max() > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        num_quotes, depth = int(quotes[-1]), int(depths[-1])
        num_containers += int(np.count_nonzero(changes == 1))
        if num_containers > limit:
            raise ValueError(f"more than {limit:,} arrays and objects, which is too many for its size")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return fields


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _bounded_integer(text: str) -> int:
    if len(text) < 19:
        return int(text)
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise ValueError(f"the integer {text[:30]}{'…' * (len(text) > 30)} exceeds 64 bits")
    return value


def _finite_number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:30]}{'…' * (len(text) > 30)} exceeds 64 bits")
    return value


def _require_unicode(value: Any) -> None:
    """Raise `ValueError` for a string with a lone surrogate, which cannot be written again."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, dict):
        for name, member in value.items():
            _require_unicode(name)
            _require_unicode(member)
    elif isinstance(value, list):
        for member in value:
            _require_unicode(member)
