"""Checks the rows of ledgers that were read from a file, which may be anybody's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_prep.ledger.table import SCHEMA
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY, shorten
from walloc_cdl.latents import UNKNOWN_LABEL, Manifest


def require_columns(schema: pa.Schema, path: Path) -> None:
    """Raise `DamagedError` unless a ledger's first columns are those of `SCHEMA`; kept columns of any type follow."""
    for number, field in enumerate(SCHEMA):
        found = schema.field(number) if number < len(schema) else None
        if found is None or found.name != field.name or found.type != field.type:
            shown = "nothing" if found is None else f"{found.name[:60]!r} of type {str(found.type)[:60]}"
            raise DamagedError(
                f"{path}: column {number} is {shown}, expected {field.name!r} of type {field.type}; {REMEDY}"
            )


def require_rows(rows: pa.Table, path: Path) -> None:
    """Raise `DamagedError` unless the rows have a key, a label, a size and, if they are stored, a row number.

    Columns that were not read are not checked.
    """
    names = set(rows.column_names)
    for field in SCHEMA:
        if field.name in names and not field.nullable:
            _require_all(rows, field.name, pc.is_valid(rows[field.name]), "a value", path)
    for name, minimum in (("label", UNKNOWN_LABEL), ("num_bytes", 0), ("row", 0)):
        if name in names:
            is_valid = pc.greater_equal(rows[name], minimum)
            _require_all(rows, name, is_valid, f"an integer of at least {minimum}", path)
    if "sha256" in names:
        is_hash = pc.match_substring_regex(rows["sha256"], "^[0-9a-f]{64}$")
        _require_all(rows, "sha256", is_hash, "a SHA-256 of 64 hexadecimal digits", path)
    if {"shard", "row"} <= names:
        is_located = pc.equal(pc.is_valid(rows["shard"]), pc.is_valid(rows["row"]))
        _require_all(rows, "row", is_located, "a row number where there is a shard, otherwise null", path)


def require_stored_rows(rows: pa.Table, manifest: Manifest, path: Path) -> None:
    """Raise `DamagedError` unless stored rows are in shards, splits and classes that the manifest lists."""
    if manifest.class_names is not None and manifest.label_kind == "class":
        names = len(manifest.class_names)
        _require_all(rows, "label", pc.less(rows["label"], names), f"one of {names} classes, or -1", path)
    names = [entry.name for entry in manifest.shards]
    position = pc.index_in(rows["shard"], value_set=pa.array(names, pa.string()))
    is_listed = pc.or_(pc.is_null(rows["shard"]), pc.is_valid(position))
    _require_all(rows, "shard", is_listed, "a shard of the manifest", path)
    num_samples = pa.array(np.array([entry.num_samples for entry in manifest.shards], np.int64))
    splits = pa.array([entry.split for entry in manifest.shards], pa.string())
    _require_all(
        rows, "row", pc.less(rows["row"], num_samples.take(position.combine_chunks())), "within its shard", path
    )
    split = splits.take(position.combine_chunks())
    same = pc.fill_null(pc.equal(rows["split"], split), False)
    _require_all(rows, "split", pc.or_(pc.is_null(rows["shard"]), same), "the split of its shard", path)


def _require_all(rows: pa.Table, name: str, is_valid: pa.ChunkedArray, expected: str, path: Path) -> None:
    """Raise `DamagedError` for the first row in which `is_valid` is false; null counts as true."""
    wrong = np.flatnonzero(~pc.fill_null(is_valid, True).to_numpy())
    if wrong.size:
        value = rows[name][int(wrong[0])].as_py()
        raise DamagedError(f"{path}: row {wrong[0]} has {name} {shorten(value)}, expected {expected}; {REMEDY}")
