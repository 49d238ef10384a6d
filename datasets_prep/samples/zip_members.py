"""Unpacks one file of a zip archive, whose directory was read before, without reading the directory again.

`zipfile` would read the whole directory in each worker. The format is that of PKWARE's APPNOTE.TXT, section 4.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from datasets_prep.samples.stored import BadSignalError, ZipMember

STORED, DEFLATED = 0, 8
"""Methods of compression that can be read."""

MAX_FREE_BYTES = 2**28
MAX_RATIO = 128
"""A member may be unpacked to `MAX_FREE_BYTES`, and to `MAX_RATIO` times its packed size beyond that; images are hardly
compressed, but deflate can pack zeros to a thousandth."""

_HEADER_BYTES = 30
_SIGNATURE = b"PK\3\4"


def unpack(member: ZipMember, read: Callable[[int, int], bytes]) -> bytes:
    """Return the content of a member. `read` returns bytes of the archive at an offset, as many as it is told.

    Raises `BadSignalError` for a member that is damaged or unpacks to too much.
    """
    num_bytes = member.num_bytes or 0
    if num_bytes > MAX_FREE_BYTES + MAX_RATIO * member.packed_bytes:
        raise BadSignalError(f"{member.packed_bytes:,} bytes in the zip archive, which become {num_bytes:,}")
    header = read(member.offset, _HEADER_BYTES)
    if not header.startswith(_SIGNATURE):
        raise BadSignalError("its header in the zip archive is damaged")
    name_bytes, extra_bytes = (int.from_bytes(header[start : start + 2], "little") for start in (26, 28))
    packed = read(member.offset + _HEADER_BYTES + name_bytes + extra_bytes, member.packed_bytes)
    data = packed if member.method == STORED else _inflated(packed, num_bytes)
    if len(data) != num_bytes or zlib.crc32(data) != member.crc32:
        raise BadSignalError("its content in the zip archive is damaged")
    return data


def _inflated(packed: bytes, num_bytes: int) -> bytes:
    """Unpack up to one byte more than `num_bytes`, however much there is."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, num_bytes + 1)
    except zlib.error as error:
        raise BadSignalError("its content in the zip archive is damaged") from error
