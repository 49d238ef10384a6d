"""Reads the headers of the pages of a Parquet column, which state how large its pages are when they are decompressed.

Arrow allocates what they state, and has no function that returns it. A header is a Thrift structure in compact
encoding, whose first three fields are integers: the kind of the page, its size decompressed, and its size in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import pyarrow.parquet as pq

DICTIONARY = 2
"""The kind of a page that holds the distinct values of a column."""

_HEADER_BYTES = (2**10, 2**24)
"""Bytes that are read of a header: first some, then at most as many as Arrow reads."""

_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
_MAX_DEPTH = 16


class PageHeader(NamedTuple):
    """What the header of a page says."""

    kind: int
    num_bytes: int
    """Size decompressed."""
    stored_bytes: int
    """Size in the file."""


def page_headers(stream: BinaryIO, chunk: pq.ColumnChunkMetaData, *, only_first: bool = False) -> Iterator[PageHeader]:
    """Yield the headers of the pages of a column, in order, or that of the first page.

    Raises `OSError` for a page without a header.
    """
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset]
    position = min(start for start in starts if start is not None and start > 0)
    end = position + chunk.total_compressed_size
    while position < end:
        header, length = _read_header(stream, position)
        yield header
        if only_first:
            return
        position += length + header.stored_bytes


def _read_header(stream: BinaryIO, position: int) -> tuple[PageHeader, int]:
    for count in _HEADER_BYTES:
        stream.seek(position)
        data = stream.read(count)
        try:
            numbers: list[int] = []
            length = _skip_struct(data, 0, _MAX_DEPTH, numbers)
        except IndexError:
            if len(data) < count:
                break
            continue
        if len(numbers) == 3 and min(numbers) >= 0:
            return PageHeader(*numbers), length
        break
    raise OSError(f"there is no header of a page at byte {position}")


def _skip_struct(data: bytes, position: int, depth: int, numbers: list[int]) -> int:
    """Return the position after a structure, and append its first integers, up to three.

    Raises `IndexError` for a structure that is longer than the data.
    """
    while data[position]:
        kind = data[position] & 0x0F
        position += 1
        if data[position - 1] < 0x10:  # the number of the field follows
            _, position = _varint(data, position)
        if kind in _INTEGERS and len(numbers) < 3:
            number, position = _varint(data, position)
            numbers.append(number >> 1 ^ -(number & 1))  # zigzag
        elif kind not in _BOOLEANS:
            position = _skip(data, position, kind, depth)
    return position + 1


def _skip(data: bytes, position: int, kind: int, depth: int) -> int:
    if not depth:
        raise OSError("a header of a page that is nested too deep")
    if kind in (*_BOOLEANS, _BYTE):
        return position + 1
    if kind in _INTEGERS:
        return _varint(data, position)[1]
    if kind == _DOUBLE:
        return position + 8
    if kind == _BINARY:
        count, position = _varint(data, position)
        return position + count
    if kind in _LISTS:
        count, item = data[position] >> 4, data[position] & 0x0F
        position += 1
        if count == 15:
            count, position = _varint(data, position)
        if count > len(data):
            raise IndexError
        for _ in range(count):
            position = _skip(data, position, item, depth - 1)
        return position
    if kind == _STRUCT:
        return _skip_struct(data, position, depth - 1, [0, 0, 0])
    raise OSError("a header of a page with a field of an unknown kind")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
        if shift > 63:
            raise OSError("a header of a page with a number beyond 64 bits")
