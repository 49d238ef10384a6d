"""Altered content of files: bytes, values of JSON, and the rows of tables."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa

from walloc_cdl.canonical import canonical_json, sha256_hex


def altered_bytes(data: bytes, draw: random.Random) -> bytes:
    """Apply one to three flips, cuts, insertions or repetitions."""
    content = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        start, length = draw.randrange(len(content) + 1), draw.choice((1, 1, 4, 60))
        kind = draw.randrange(4)
        if kind == 0 and start < len(content):
            content[start] = draw.randrange(256)
        elif kind == 1:
            del content[start : start + length]
        elif kind == 2:
            content[start:start] = draw.randbytes(length)
        else:
            content[start:start] = content[start : start + length]
    return bytes(content)


HOSTILE = (
    None,
    True,
    -1,
    0,
    1,
    255,
    2**31,
    2**63,
    2**70,
    1.5,
    1e308,
    "",
    "..",
    "/etc",
    "a/../b",
    [],
    [[]],
    {},
    {"a": 1},
)


def altered_fields(value: object, draw: random.Random, hostile: tuple[Any, ...] = HOSTILE) -> Any:
    """Return the value with one of its parts replaced, dropped or repeated."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(sorted(value))
        kind = draw.randrange(8)
        if kind == 0:
            return {key: item for key, item in value.items() if key != name}
        if kind == 1:
            return {**value, draw.choice(("x", "train", "codes")): value[name]}
        return {**value, name: altered_fields(value[name], draw, hostile)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        position = draw.randrange(len(value))
        kind = draw.randrange(6)
        if kind == 0:
            return value[:position] + value[position + 1 :]
        if kind == 1:
            return [*value, value[position]]
        return [*value[:position], altered_fields(value[position], draw, hostile), *value[position + 1 :]]
    if type(value) is int and draw.random() < 0.5:
        return value + draw.choice((-1, 1))
    return draw.choice(hostile)


def nested(depth: int) -> Any:
    """Return an array in an array …, `depth` deep."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


ODD = (*HOSTILE, nested(600), -(2**63) - 1, 10**400, 0.0, "x" * 10_000, "\x1b[31m\n", "\ud800", [0] * 3000, "train")
"""Further values for a field."""

ODD_TEXTS = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 600,
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b'{"digest": 1}',
    b"1e999",
    b"9" * 5000,
)


def altered_json(data: bytes, draw: random.Random, *, sealed: bool) -> bytes:
    """Alter JSON in some bytes, in a value, or as a whole; a `sealed` one has a digest, which is made again."""
    kind = draw.random()
    if kind < 0.3:
        return altered_bytes(data, draw)
    if kind < 0.35:
        return draw.choice(ODD_TEXTS)
    fields = json.loads(data)
    if sealed:
        fields.pop("digest")
    altered = altered_fields(fields, draw, ODD)
    if sealed and isinstance(altered, dict):
        try:
            altered = {**altered, "digest": sha256_hex(canonical_json(altered))}
        except ValueError:  # a lone surrogate
            altered = {**altered, "digest": "0" * 64}
    text = json.dumps(altered).encode()
    if kind < 0.4:  # numbers and names that Python would not write
        number = draw.choice((b"NaN", b"1e999", b"-Infinity", b'{"a":1,"a":2}', b"9" * 30))
        return text.replace(draw.choice((b"1", b"0", b"null")), number, 1)
    return text


def altered_table(table: pa.Table, draw: random.Random) -> pa.Table:
    """Alter one column of a table in its name, type, values or place, or repeat rows."""
    index = draw.randrange(table.num_columns)
    name, column = table.column_names[index], table.column(index)
    kind = draw.randrange(8)
    if kind == 0:
        return table.remove_column(index)
    if kind == 1:
        return table.rename_columns([*table.column_names[:index], "other", *table.column_names[index + 1 :]])
    if kind == 2:
        types = (
            pa.int32(),
            pa.string(),
            pa.binary(),
            pa.float64(),
            pa.bool_(),
            pa.large_string(),
            pa.list_(pa.int64()),
        )
        values = draw.choice(([None] * table.num_rows, column.to_pylist()))
        try:
            return table.set_column(index, name, pa.array(values, draw.choice(types)))
        except (pa.ArrowException, TypeError, ValueError):
            return table.set_column(index, name, pa.nulls(table.num_rows))
    if kind == 3:
        return table.append_column(draw.choice(("x", name)), column)
    if kind == 4:
        rows = [draw.randrange(table.num_rows) for _ in range(draw.choice((0, 1, table.num_rows, 3 * table.num_rows)))]
        return table.take(pa.array(rows, pa.int64()))
    values = column.to_pylist()
    for _ in range(draw.randint(1, 3)):
        row = draw.randrange(len(values))
        if pa.types.is_integer(column.type):
            values[row] = draw.choice((None, -1, -2, 0, 1, 5, 2**31, 2**63 - 1, -(2**63)))
        else:
            values[row] = draw.choice(
                (None, "", "train", "x", "dropped", "duplicate", "f" * 64, "é\x1b", "a" * 100_000)
            )
    return table.set_column(index, pa.field(name, column.type), pa.array(values, column.type))
