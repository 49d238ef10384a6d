"""How many rows of a Parquet file are decoded at once, by the memory that they may take.

A column can store its values once, in a dictionary, and refer to them from each row: one value of 20 MB in 1,024 rows
is a file of 20 MB, and 20 GB decoded. Nothing in the footer says so, but each dictionary is a page of its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import pyarrow.parquet as pq

from datasets_prep.sources.folders.parquet_pages import DICTIONARY, page_headers

BATCH_BYTES = 2**28
"""Limit for the rows that are decoded at once, if they are several."""

MAX_RATIO = 256
"""Limit for the compression of a page, beyond `BATCH_BYTES`; encoded images are hardly compressed."""

_VALUE_TYPES = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")


def rows_at_once(
    file: pq.ParquetFile,
    stream: BinaryIO,
    columns: Sequence[str],
    most: int,
    *,
    group: int | None = None,
    only_first: bool = False,
) -> int:
    """Return the number of rows, 1 to `most`, of `columns` that take at most `BATCH_BYTES`; at least one in any case.

    `stream` is the file that `file` reads; `group` is the number of a row group, None stands for all. With
    `only_first`, for files at URLs, only the first page of each column is looked at. Raises `OSError` for a page that
    has no header, and for one that is compressed too much.
    """
    groups = range(file.num_row_groups) if group is None else [group]
    row_bytes = max((_row_bytes(file, number, stream, columns, only_first) for number in groups), default=1)
    return max(1, min(most, BATCH_BYTES // max(row_bytes, 1)))


def _row_bytes(file: pq.ParquetFile, number: int, stream: BinaryIO, columns: Sequence[str], only_first: bool) -> int:
    """Return the size of a row of a group: the average, or the largest that is possible where values are repeated."""
    group = file.metadata.row_group(number)
    repeated_bytes, total_bytes = 0, 0
    for position in range(group.num_columns):
        chunk = group.column(position)
        path = chunk.path_in_schema
        if any(path == column or path.startswith(f"{column}.") for column in columns):
            total_bytes += max(chunk.total_uncompressed_size, 0)
            if chunk.physical_type in _VALUE_TYPES and chunk.num_values:
                repeated_bytes += _dictionary_bytes(stream, chunk, only_first=only_first)
    return max(repeated_bytes, -(-total_bytes // max(group.num_rows, 1)))


def _dictionary_bytes(stream: BinaryIO, chunk: pq.ColumnChunkMetaData, *, only_first: bool) -> int:
    """Return the size of a column's dictionary, which no value exceeds; 0 if it has none."""
    found = 0
    for page in page_headers(stream, chunk, only_first=only_first):
        if page.num_bytes > BATCH_BYTES + MAX_RATIO * page.stored_bytes:
            raise OSError(f"a page of {page.stored_bytes:,} bytes becomes {page.num_bytes:,}, decompressed")
        if page.kind == DICTIONARY:
            found = max(found, page.num_bytes)
    return found
