"""Reading of untrusted Parquet files, one row group at a time, in memory that is bounded by the size of the file.

A few bytes can stand for any number of rows, and one entry of a dictionary for any number of long texts. So the numbers
of rows and values are checked first, texts are read as dictionaries, and their whole length is known before they are
expanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.fields import REMEDY

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FREE_ROWS = 1 << 18
"""A row group may have as many rows, and one more for each byte of the file."""
FREE_VALUES = 1 << 21
"""A column of a row group may have as many values, and one more for each byte of the file."""
FREE_BYTES = 1 << 25
"""A row group may have this size, and 16 times that of the file."""


def read_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups of a Parquet file, with all columns or the given ones.

    Raises `DamagedError` for a file that cannot be read, has no such column, or holds more than its size allows.
    """
    import pyarrow as pa

    try:
        yield from _groups(path, columns)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # pyarrow raises OSError for invalid pages
        raise DamagedError(f"{path}: not readable as Parquet ({one_line(error)}); {REMEDY}") from error


def read_schema(path: Path) -> pa.Schema:
    """Return the columns of a Parquet file; raises as `read_groups` does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            return file.schema_arrow
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path}: not readable as Parquet ({one_line(error)}); {REMEDY}") from error


def _groups(path: Path, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = read_schema(path)
    if len(set(schema.names)) != len(schema.names):
        raise DamagedError(f"{path}: two columns have the same name; {REMEDY}")
    names = schema.names if columns is None else list(columns)
    if missing := [name for name in names if name not in schema.names]:
        raise DamagedError(f"{path}: column {missing[0]!r} is missing; {REMEDY}")
    texts = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    wide = [name for name in names if schema.field(name).type in texts]
    num_bytes = path.stat().st_size
    with pq.ParquetFile(path, pre_buffer=False, read_dictionary=wide) as file:
        for number in range(file.num_row_groups):
            _require_bounded(file.metadata, number, num_bytes, path)
            table = file.read_row_group(number, columns=names, use_threads=False)
            length = sum(_text_bytes(table[name]) for name in wide)
            if length > (limit := FREE_BYTES + 16 * num_bytes):
                raise DamagedError(
                    f"{path}: texts of {length:,} bytes in a row group, expected at most {limit:,}; {REMEDY}"
                )
            for name in wide:
                values = table[name].cast(schema.field(name).type)
                table = table.set_column(table.schema.get_field_index(name), schema.field(name), values)
            table = table.combine_chunks()
            table.validate(full=True)
            yield table.replace_schema_metadata(schema.metadata)


def _require_bounded(metadata: pq.FileMetaData, number: int, num_bytes: int, path: Path) -> None:
    """Raise `DamagedError` for a row group with more rows, values or bytes than a file of `num_bytes` should have."""
    group = metadata.row_group(number)
    chunks = [group.column(column) for column in range(group.num_columns)]
    for what, found, limit in (
        ("rows", group.num_rows, FREE_ROWS + num_bytes),
        ("values in a column", max((chunk.num_values for chunk in chunks), default=0), FREE_VALUES + num_bytes),
        ("bytes", sum(chunk.total_uncompressed_size for chunk in chunks), FREE_BYTES + 16 * num_bytes),
    ):
        if not 0 <= found <= limit:
            raise DamagedError(f"{path}: {found:,} {what} of a row group, expected at most {limit:,}; {REMEDY}")


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return the length of all texts of a column, which may be a dictionary's, without expanding them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for chunk in column.chunks:
        lengths = chunk
        if isinstance(chunk, pa.DictionaryArray):
            lengths = pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)
        else:
            lengths = pc.binary_length(chunk).cast(pa.int64())
        total += pc.sum(lengths).as_py() or 0
    return total
