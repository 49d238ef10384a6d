"""Canonical JSON, SHA-256 hashes, and the differences between two JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK_BYTES = 1 << 20


def canonical_json(value: object) -> bytes:
    """Return UTF-8 JSON that depends only on the value: sorted keys, no spaces, no NaN, no newline.

    >>> canonical_json({"b": 1, "a": "é"}).decode()
    '{"a":"é","b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, in constant memory."""
    with open(path, "rb") as file:
        return sha256_stream(file)


def sha256_stream(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def first_difference(left: dict[str, Any], right: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the first field in which two JSON objects differ: its dotted name and both values; None if they are equal.

    >>> first_difference({"train": {"lr": 0.1}}, {"train": {"lr": 0.2}})
    ('train.lr', 0.1, 0.2)
    """
    return next(iter(differences(left, right)), None)


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return all fields in which two JSON objects differ, in the form of `first_difference`."""
    flat_left, flat_right = dict(_flattened(left)), dict(_flattened(right))
    fields = [*flat_left, *(field for field in flat_right if field not in flat_left)]
    return [
        (field, flat_left.get(field), flat_right.get(field))
        for field in fields
        if flat_left.get(field) != flat_right.get(field)
    ]


def _flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for name, member in value.items():
        yield from _flattened(member, f"{prefix}.{name}" if prefix else name)
