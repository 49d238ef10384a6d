"""Reads the members of a tar from their headers alone: names, offsets and sizes. Seeking skips the content.

The format is POSIX.1-1988 (ustar) with both forms of long names: pax records (POSIX.1-2001) and GNU's `L` blocks.
Python's `tarfile` is not used, because it keeps every member in memory and trusts the sizes in extended headers.

A sample is an offset in a tar, which any worker can read, so that a data set of tars has random access, `--shards` and
resumption, as a folder does.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.retries import Deadline

BLOCK = 512

MAX_EXTENDED_BYTES = 2**20
"""Limit for extended headers, which hold a name and some attributes."""

MAX_HEADERS = 2**25
"""Limit for the headers of a tar, of which a member has up to three; a server could make up ever more of them."""

REGULAR_TYPES = (b"0", b"\0", b"7")
LONG_NAME, PAX, PAX_GLOBAL = b"L", b"x", b"g"
CONTENT_TYPES = (*REGULAR_TYPES, LONG_NAME, PAX, PAX_GLOBAL, b"K", b"S", b"X")
"""Types whose header is followed by content of the given size; for others (folders, links) the size has no meaning."""


@dataclass(frozen=True)
class TarMember:
    """A regular file in a tar."""

    name: bytes
    offset: int
    """Offset of its content in the tar."""
    num_bytes: int


class DamagedTarError(DamagedError):
    """The rest of a tar cannot be read. The message says from which offset on, and why."""


def members(
    file: BinaryIO, start: int = 0, num_bytes: int | None = None, *, deadline: Deadline | None = None
) -> Iterator[TarMember]:
    """Yield the regular members of a plain tar in order; a tar within another file begins at `start`.

    Raises `DamagedTarError` for a damaged header, a truncated member, a missing end mark, and more than `MAX_HEADERS`,
    after it has yielded all complete members before. Raises `TimeoutError` after the deadline.
    """
    total = file.seek(0, os.SEEK_END) if num_bytes is None else start + num_bytes
    position, long_name, pax = start, None, {}
    for number in itertools.count():
        if number == MAX_HEADERS:
            raise DamagedTarError(f"has more than {MAX_HEADERS:,} headers")
        if deadline is not None:
            deadline.left_s()
        header = _read(file, position, min(BLOCK, max(total - position, 0)))
        if not header:
            raise DamagedTarError(f"ends after {position:,} bytes without an end mark: it may be truncated")
        if header == bytes(BLOCK):
            return
        kind, name, num_bytes = _parsed(header, position)
        content = position + BLOCK
        if kind in REGULAR_TYPES or kind == b"S":
            num_bytes = _pax_size(pax, num_bytes, position)
            name = pax.get(b"path", long_name or name)
        content_bytes = num_bytes if kind in CONTENT_TYPES else 0
        if content + content_bytes > total:
            shown = name.decode("utf-8", "backslashreplace")
            raise DamagedTarError(f"is truncated within its member {shown[:100]}, at {position:,} bytes")
        if kind in REGULAR_TYPES and b"GNU.sparse.major" not in pax:
            yield TarMember(name, content, num_bytes)
        if kind == LONG_NAME:
            long_name = _extended(file, content, num_bytes).rstrip(b"\0")
        elif kind == PAX:
            pax = _pax_records(_extended(file, content, num_bytes), position)
        elif kind not in (PAX_GLOBAL, b"K"):
            long_name, pax = None, {}
        position = content + -(-content_bytes // BLOCK) * BLOCK


def require_tar(file: BinaryIO, shown: str) -> None:
    """Raise `CallError`, with the name `shown`, unless the first block is that of a plain tar."""
    header = _read(file, 0, BLOCK)
    for magic, kind in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")):
        if header.startswith(magic):
            raise CallError(f"{shown!r} is compressed with {kind}; decompress it: random access needs a plain tar")
    try:
        if header != bytes(BLOCK):
            _parsed(header, 0)
    except DamagedTarError as error:
        raise CallError(f"{shown!r} is not a tar file ({error}); give the path of plain tars") from error


def _read(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    file.seek(position)
    return file.read(num_bytes)


def _parsed(header: bytes, position: int) -> tuple[bytes, bytes, int]:
    """Return type, name and size of a header, after checking its checksum."""
    where = f"its header at {position:,} bytes"
    if len(header) < BLOCK:
        raise DamagedTarError(f"is truncated within {where}")
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * 32:
        raise DamagedTarError(f"is damaged: the checksum of {where} is wrong, so what follows cannot be found")
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].partition(b"\0")[0]
    name = name.partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    num_bytes = _octal(header[124:136])
    if num_bytes is None:
        raise DamagedTarError(f"is damaged: the size in {where} is no number, so what follows cannot be found")
    return header[156:157], name, num_bytes


def _octal(field: bytes) -> int | None:
    """Parse a number of a header. GNU stores larger numbers in base 256, marked by the first bit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    if any(digit not in b"01234567" for digit in digits):
        return None
    return int(digits or b"0", 8)


def _extended(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    if num_bytes > MAX_EXTENDED_BYTES:
        raise DamagedTarError(f"is damaged: an extended header of {num_bytes:,} bytes at {position:,} bytes")
    return _read(file, position, num_bytes)


def _pax_records(data: bytes, position: int) -> dict[bytes, bytes]:
    """Parse records of the form `LENGTH NAME=VALUE` and a newline; LENGTH is the length of the whole record."""
    records, start = {}, 0
    while start < len(data) and data[start]:
        digits = data[start : start + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        name, equals, value = data[start + len(digits) + 1 : start + length - 1].partition(b"=")
        if not equals or start + length > len(data):
            raise DamagedTarError(f"is damaged: its extended header at {position:,} bytes cannot be read")
        records[name] = value
        start += length
    return records


def _pax_size(pax: dict[bytes, bytes], num_bytes: int, position: int) -> int:
    text = pax.get(b"size")
    if text is None:
        return num_bytes
    if not text.isdigit() or len(text) > 18:
        raise DamagedTarError(f"is damaged: a size in its extended header before {position:,} bytes is no number")
    return int(text)
