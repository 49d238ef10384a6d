"""Limits for what a file may become when it is decoded, by its size.

The header of a file, or a few bytes of a compressed one, can stand for any number of values: a FLAC file of 244 kB for
a gigabyte of silence. Recordings and measurements stay far below the limit: the lowest bit rate of Opus gives 128
values per byte.
"""

from __future__ import annotations

from datasets_prep.samples.stored import BadSignalError

FREE_VALUES = 2**24
"""Values that a file of any size may have: 64 MiB as float32."""

VALUES_PER_BYTE = 256
"""Further values for each byte of the file."""


def require_expansion(
    num_values: int, file_bytes: int, values_per_byte: int = VALUES_PER_BYTE, unit: str = "values"
) -> None:
    """Raise `BadSignalError` for more values than a file of `file_bytes` bytes may have."""
    limit = FREE_VALUES + values_per_byte * file_bytes
    if num_values > limit:
        raise BadSignalError(
            f"{num_values:,} {unit} from a file of {file_bytes:,} bytes, more than {limit:,}; store it without "
            "compression if they are wanted"
        )
