"""Canonical JSON, the hashes that are taken of it, and where two JSON values differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK_BYTES = 1 << 20


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON that depends on nothing but the value: sorted keys, no spaces, no NaN, no newline.

    >>> canonical_json({"b": 1, "a": "é"}).decode()
    '{"a":"é","b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256_hex(data: bytes | memoryview) -> str:
    """SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file as 64 hexadecimal digits, in constant memory."""
    with open(path, "rb") as file:
        return sha256_stream(file)


def sha256_stream(file: BinaryIO) -> str:
    """The same of what an open file still has to give."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def first_difference(mine: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field in which two JSON objects differ, its dotted name and both values; None if they are equal.

    >>> first_difference({"train": {"lr": 0.1}}, {"train": {"lr": 0.2}})
    ('train.lr', 0.1, 0.2)
    """
    return next(iter(differences(mine, theirs)), None)


def differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """All fields in which two JSON objects differ, as `first_difference` has them."""
    flat_mine, flat_theirs = dict(_flattened(mine)), dict(_flattened(theirs))
    fields = [*flat_mine, *(field for field in flat_theirs if field not in flat_mine)]
    return [
        (field, flat_mine.get(field), flat_theirs.get(field))
        for field in fields
        if flat_mine.get(field) != flat_theirs.get(field)
    ]


def _flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for name, member in value.items():
        yield from _flattened(member, f"{prefix}.{name}" if prefix else name)
