"""Ledgers with other columns, types and values than `prepare` writes are refused in one line."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_prep.ledger.rewrite import ledger_parts
from datasets_prep.ledger.table import SCHEMA
from tests.support.small_sets import write_small_set
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.latents import FileEntry, load_manifest

ROWS = {
    "split": ["train", "train", None],
    "key": ["a", "b", "notes.txt"],
    "label": [0, -1, -1],
    "num_bytes": [10, 11, 12],
    "sha256": ["0" * 64, None, None],
    "shard": ["train-00000.safetensors", None, None],
    "row": [0, None, None],
    "reason": [None, "broken", "stray"],
    "duplicate_of": [None, None, None],
}
TABLE = pa.table(ROWS, schema=SCHEMA)


@pytest.fixture
def read(tmp_path):
    """Write a table as the ledger of a data set, and read it."""
    write_small_set(tmp_path, {"train": [2]})
    manifest, path = load_manifest(tmp_path), tmp_path / "ledger.parquet"

    def written(table: pa.Table, **options) -> pa.Table:
        pq.write_table(table, path, **options)
        data = path.read_bytes()
        entry = FileEntry(len(data), sha256_hex(data))
        parts = ledger_parts(tmp_path, replace(manifest, files={"ledger.parquet": entry}))
        return pa.concat_tables(parts)

    return written


def test_a_ledger_is_read_as_it_is(read):
    kept = TABLE.append_column("kept", pa.array([["x"], None, []], pa.list_(pa.large_string())))
    for table in (TABLE, kept):
        assert read(table, row_group_size=2).equals(table)


def changed(name: str, values: list, kind: pa.DataType | None = None) -> pa.Table:
    index = TABLE.column_names.index(name)
    column = pa.array(values, kind or SCHEMA.field(name).type)
    return TABLE.set_column(index, pa.field(name, column.type), column)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop_columns(["reason"]), "column 7 is 'duplicate_of' of type string, expected 'reason' of type string"),
        (TABLE.drop_columns(["duplicate_of"]), "column 8 is nothing, expected 'duplicate_of' of type string"),
        (TABLE.append_column("key", TABLE["key"]), "two columns have the same name"),
        (changed("label", [0, 1, 2], pa.int32()), "column 2 is 'label' of type int32, expected 'label' of type int64"),
        (changed("key", [1, 2, 3], pa.int64()), "column 1 is 'key' of type int64, expected 'key' of type string"),
        (changed("key", ["a", None, "b"]), "row 1 has key None, expected a value"),
        (changed("label", [3, -1, -1]), "row 0 has label 3, expected one of 3 classes, or -1"),
        (changed("label", [0, -2, -1]), "row 1 has label -2, expected an integer of at least -1"),
        (changed("num_bytes", [0, 0, -1]), "row 2 has num_bytes -1, expected an integer of at least 0"),
        (changed("sha256", ["xyz", None, None]), "row 0 has sha256 'xyz', expected a SHA-256 of 64 hexadecimal digits"),
        (changed("shard", ["x", None, None]), "row 0 has shard 'x', expected a shard of the manifest"),
        (changed("row", [2, None, None]), "row 0 has row 2, expected within its shard"),
        (changed("row", [None, None, None]), "row 0 has row None, expected a row number where there is a shard"),
        (changed("split", ["test", None, None]), "row 0 has split 'test', expected the split of its shard"),
    ],
)
def test_other_columns_and_values_are_refused(read, table, message):
    with pytest.raises(DamagedError) as caught:
        read(table)
    assert f"ledger.parquet: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ledgers_that_expand_are_refused(read):
    """Texts and rows of some gigabytes, in a file of some kilobytes."""
    rows = TABLE.take(pa.array([1] * 2000))
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 1_000_000]))
    options = {"compression": "zstd", "store_schema": False}
    with pytest.raises(DamagedError, match=r"texts of 2,000,\d+,\d+ bytes in a row group, expected at most 33,"):
        read(rows.set_column(1, "key", long), **options)
    many = TABLE.take(pa.array([1] * 400_000))
    with pytest.raises(DamagedError, match=r"400,000 rows of a row group, expected at most 27\d,"):
        read(many, row_group_size=400_000, **options)


def test_a_file_that_is_no_parquet_is_refused(read, tmp_path):
    read(TABLE)
    path = tmp_path / "ledger.parquet"
    path.write_bytes(b"PAR1" + bytes(60) + b"PAR1")
    data, manifest = path.read_bytes(), load_manifest(tmp_path)
    listed = replace(manifest, files={"ledger.parquet": FileEntry(len(data), sha256_hex(data))})
    with pytest.raises(DamagedError, match=r"ledger\.parquet: not readable as Parquet \("):
        list(ledger_parts(tmp_path, listed))
