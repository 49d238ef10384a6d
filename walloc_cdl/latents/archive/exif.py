"""One text in an Exif block: little-endian TIFF with the single tag ImageDescription.

Only this form is read back, so that no general parser meets untrusted bytes.
"""

from __future__ import annotations

import struct

_FORM = struct.Struct("<2sHIHHHIII")
"""Byte order, 42, place of the directory; one entry: tag, type, count, place of the text; no next directory."""

_IMAGE_DESCRIPTION = 0x010E
_ASCII = 2


def exif_block(text: bytes) -> bytes:
    """The block that holds `text`, to which the final zero is added."""
    return _FORM.pack(b"II", 42, 8, 1, _IMAGE_DESCRIPTION, _ASCII, len(text) + 1, _FORM.size, 0) + text + b"\0"


def exif_text(block: bytes) -> bytes | None:
    """Inverse of `exif_block`; None for a block of any other form."""
    text = block[_FORM.size : -1]
    return text if block == exif_block(text) else None
