"""The common schema of parts of one data set, such as Parquet files, whose writers chose types of different widths."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from walloc_cdl.errors import CallError

_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def common_schema(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the columns of the first part, with types that hold the values of all parts.

    Integers, floats, strings, binaries, and lists and structs of these, may differ in width, in signedness, and in
    whether they are dictionaries or views; a column may be without values (`null`) in some parts. The order of the
    columns, and whether they allow nulls, may differ.

    `schemas`: name, for messages, and schema of each part. Raises `CallError` for other differences, with the first of
    them.
    """
    remaining = iter(schemas)
    first_name, first = next(remaining)
    _require_distinct(first_name, first)
    common = first
    for name, schema in remaining:
        if schema.equals(first, check_metadata=False):
            continue
        _require_distinct(name, schema)
        missing, further = _difference(first, schema), _difference(schema, first)
        if missing or further:
            found = [f"no {', '.join(missing)}"] * bool(missing) + [f"also {', '.join(further)}"] * bool(further)
            raise CallError(
                f"{name} has other columns than {first_name}: {' and '.join(found)}; give parts of one data set"
            )
        fields = []
        for field in common:
            found_type = schema.field(field.name).type
            wider = _wider(field.type, found_type)
            if wider is None:
                raise CallError(
                    f"column {field.name!r} is {found_type} in {name}, but {field.type} in {first_name}; give "
                    "parts of one data set, or cast the column"
                )
            fields.append(pa.field(field.name, wider, metadata=field.metadata))
        common = pa.schema(fields, first.metadata)
    return common


def _require_distinct(name: str, schema: pa.Schema) -> None:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise CallError(f"{name} has several columns called {twice[0]!r}; rename them")


def _difference(schema: pa.Schema, other: pa.Schema) -> list[str]:
    return [repr(name) for name in schema.names if name not in other.names][:10]


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return a type for the values of both; None if they are of different kinds."""
    if a.equals(b):
        return a
    a, b = _plain(a), _plain(b)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        if sorted(field.name for field in a) != sorted(field.name for field in b):
            return None
        types = [_wider(field.type, b.field(field.name).type) for field in a]
        return None if None in types else pa.struct([(field.name, kind) for field, kind in zip(a, types, strict=True)])
    if _is_list(a) and _is_list(b):
        item = _wider(a.value_type, b.value_type)
        return None if item is None else pa.large_list(item)
    if not (pa.types.is_null(a) or pa.types.is_null(b) or _kind(a) == _kind(b)):
        return None
    try:
        fields = (pa.schema([("x", kind)]) for kind in (a, b))
        return pa.unify_schemas(list(fields), promote_options="permissive").field("x").type
    except pa.ArrowException:
        return None


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary or a view; any other type itself."""
    while pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _VIEWS.get(kind, kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _kind(kind: pa.DataType) -> object:
    """Return the same value for types that differ in width only."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp)
    for number, test in enumerate(tests):
        if test(kind):
            return number
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return "binary" if binary else kind
