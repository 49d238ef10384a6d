"""Unpacks one file of a zip archive, whose directory was read before, without reading the directory again.

`zipfile` would read the whole directory in each worker. The format is that of PKWARE's APPNOTE.TXT, section 4.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from datasets_prep.samples.stored import BadSignalError, ZipMember

STORED, DEFLATED = 0, 8
"""Methods of compression that can be read."""

_HEADER_BYTES = 30
_SIGNATURE = b"PK\3\4"


def unpack(member: ZipMember, read: Callable[[int, int], bytes]) -> bytes:
    """Return the content of a member. `read` returns bytes of the archive at an offset, as many as it is told.

    Raises `BadSignalError` for a member that is damaged.
    """
    header = read(member.offset, _HEADER_BYTES)
    if not header.startswith(_SIGNATURE):
        raise BadSignalError("its header in the zip archive is damaged")
    name_bytes, extra_bytes = (int.from_bytes(header[start : start + 2], "little") for start in (26, 28))
    packed = read(member.offset + _HEADER_BYTES + name_bytes + extra_bytes, member.packed_bytes)
    data = packed if member.method == STORED else _inflated(packed, member.num_bytes or 0)
    if len(data) != member.num_bytes or zlib.crc32(data) != member.crc32:
        raise BadSignalError("its content in the zip archive is damaged")
    return data


def _inflated(packed: bytes, num_bytes: int) -> bytes:
    """Unpack up to one byte more than `num_bytes`, however much there is."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, num_bytes + 1)
    except zlib.error as error:
        raise BadSignalError("its content in the zip archive is damaged") from error
