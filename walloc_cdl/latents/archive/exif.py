"""A text in an Exif block: little-endian TIFF with the single tag ImageDescription.

Only blocks of this structure are read, so that untrusted bytes reach no general parser.
"""

from __future__ import annotations

import struct

_PREFIX = struct.Struct("<2sHIHHHIII")
"""Byte order, 42, offset of the directory; one entry: tag, type, count, offset of the text; no next directory."""

_IMAGE_DESCRIPTION = 0x010E
_ASCII = 2


def exif_block(text: bytes) -> bytes:
    """Return the block that holds `text`, terminated by a zero byte."""
    return _PREFIX.pack(b"II", 42, 8, 1, _IMAGE_DESCRIPTION, _ASCII, len(text) + 1, _PREFIX.size, 0) + text + b"\0"


def exif_text(block: bytes) -> bytes | None:
    """Return the text of a block: the inverse of `exif_block`; None for a block of any other structure."""
    text = block[_PREFIX.size : -1]
    return text if block == exif_block(text) else None
