"""How many rows of a Parquet file are decoded at once, by the memory that they may take.

A column can store its values once, in a dictionary, and refer to them from each row: one value of 20 MB in 1,024 rows
is a file of 20 MB, and 20 GB decoded. Nothing in the footer says so, but each dictionary is the first page of its
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import pyarrow.parquet as pq

BATCH_BYTES = 2**28
"""Limit for the rows that are decoded at once, if they are several."""

_DICTIONARY_PAGE = 2
_HEADER_BYTES = 32
"""More than the first three fields of a page's header take."""
_VALUE_TYPES = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")


def rows_at_once(
    file: pq.ParquetFile, stream: BinaryIO, columns: Sequence[str], most: int, *, group: int | None = None
) -> int:
    """Return the number of rows, 1 to `most`, of `columns` that take at most `BATCH_BYTES`; at least one in any case.

    `stream` is the file that `file` reads; `group` is the number of a row group, None stands for all. Raises `OSError`
    for a page that has no header.
    """
    groups = range(file.num_row_groups) if group is None else [group]
    return min((_of_group(file, number, stream, columns, most) for number in groups), default=most)


def _of_group(file: pq.ParquetFile, number: int, stream: BinaryIO, columns: Sequence[str], most: int) -> int:
    group = file.metadata.row_group(number)
    row_bytes, total_bytes = 0, 0
    for position in range(group.num_columns):
        chunk = group.column(position)
        path = chunk.path_in_schema
        if not any(path == column or path.startswith(f"{column}.") for column in columns):
            continue
        total_bytes += max(chunk.total_uncompressed_size, 0)
        if chunk.physical_type in _VALUE_TYPES and chunk.num_values:
            row_bytes += _dictionary_bytes(stream, chunk)
    average = -(-total_bytes // max(group.num_rows, 1))
    return max(1, min(most, BATCH_BYTES // max(row_bytes, average, 1)))


def _dictionary_bytes(stream: BinaryIO, chunk: pq.ColumnChunkMetaData) -> int:
    """Return the size of a column's dictionary, which no value exceeds; 0 if it has none."""
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset]
    stream.seek(min(start for start in starts if start is not None and start > 0))
    header = stream.read(_HEADER_BYTES)
    kind, num_bytes = _first_integers(header)
    return num_bytes if kind == _DICTIONARY_PAGE else 0


def _first_integers(header: bytes) -> tuple[int, int]:
    """Return the kind and the uncompressed size of a page: the first two fields of its header (Thrift, compact)."""
    values, position = [], 0
    for _ in range(2):
        if header[position : position + 1] != b"\x15":  # the next field, an integer of 32 bits
            raise OSError("a page without a header")
        number = shift = 0
        while True:
            position += 1
            if position >= len(header) or shift > 28:
                raise OSError("a page without a header")
            number |= (header[position] & 0x7F) << shift
            shift += 7
            if header[position] < 0x80:
                break
        position += 1
        values.append(number >> 1 ^ -(number & 1))  # zigzag
    return values[0], values[1]
