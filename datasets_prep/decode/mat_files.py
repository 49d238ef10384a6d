"""Reads one variable of a MATLAB file (.mat, up to version 7), which is untrusted.

scipy parses the variables, but believes whatever sizes they state, and compressed variables may become a thousand times
larger. So it gets one variable at a time, decompressed here up to what the variable may need, and only variables of the
expected kind: a cell or structure costs a Python object for every 8 bytes.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datasets_prep.decode.expansion import require_expansion
from datasets_prep.samples.stored import BadSignalError

MAX_ARRAY_BYTES = 2**32
"""Limit for the size of an array in a .mat file, whose values are counted as 8 bytes each."""

NUMBER_BYTES = {
    "double": 8,
    "single": 4,
    "logical": 1,
    **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)},
}
"""The size of a number by scipy's name of the kind of variable, for arrays of numbers."""

MAX_RATIO = 256
"""Limit for the compression of an array, beyond what `datasets_prep.decode.expansion` allows any file; scenes are
compressed to a half, and zlib could compress zeros to a thousandth."""

HEADER_BYTES = 128
"""Size of the header of a file of version 5 to 7."""

DESCRIPTION_BYTES = 2**16
"""Bytes of a variable that hold its kind, name and shape."""

_COMPRESSED = 15
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class _Variable:
    name: str
    shape: tuple[int, ...]
    kind: str
    """scipy's name of the kind, such as `double` or `cell`."""
    start: int
    """Offset of its data in the file, or of the compressed data."""
    num_bytes: int
    compressed: bool

    @property
    def num_values(self) -> int:
        return int(np.prod([int(side) for side in self.shape], dtype=object))


def load_mat_array(path: str | os.PathLike[str], name: str | None) -> np.ndarray:
    """Load an array of numbers, read-only.

    None selects the only array that has at least two axes longer than one. Raises `BadSignalError` for a file without
    such an array and for arrays that are too large; scipy raises exceptions of any type for broken files.
    """
    file_bytes = os.stat(path).st_size
    with Path(path).open("rb") as file:
        header = _require_header(file)
        variable = _choose(list(_variables(file, header)), name)
        if variable.kind not in NUMBER_BYTES:
            raise BadSignalError(f"variable {variable.name} is of kind {variable.kind}; expected an array of numbers")
        if variable.num_values * 8 > MAX_ARRAY_BYTES:
            raise BadSignalError(
                f"variable {variable.name} of {variable.num_values:,} values; at most {MAX_ARRAY_BYTES // 8:,} are read"
            )
        require_expansion(variable.num_values, file_bytes, MAX_RATIO // NUMBER_BYTES[variable.kind])
        values = _load(file, header, variable, 16 * variable.num_values + DESCRIPTION_BYTES)
    if not isinstance(values, np.ndarray):
        raise BadSignalError(f"variable {variable.name} is no array")
    values.flags.writeable = False
    return values


def load_mat_table(path: str | os.PathLike[str], name: str, *, max_bytes: int) -> Any:
    """Load a small variable of any kind, with its axes of length one removed.

    Raises `BadSignalError` for a file without it, and for one that takes more than `max_bytes` decompressed.
    """
    with Path(path).open("rb") as file:
        header = _require_header(file)
        variable = _choose(list(_variables(file, header)), name)
        return _load(file, header, variable, max_bytes, squeeze_me=True)


def _require_header(file: BinaryIO) -> bytes:
    """Return the header of a file of version 5 to 7; b"" for version 4, whose variables are not compressed."""
    from scipy.io.matlab import matfile_version

    header = file.read(HEADER_BYTES)
    if header.startswith(_HDF5_SIGNATURE) or (file.seek(512) and file.read(8) == _HDF5_SIGNATURE):
        raise BadSignalError("a MATLAB 7.3 (HDF5) file; save it with MATLAB's -v7, or as .npy")
    file.seek(0)
    major, _ = matfile_version(file)
    return header if major else b""


def _variables(file: BinaryIO, header: bytes) -> Iterator[_Variable]:
    """Yield all variables, of which only the descriptions are read."""
    from scipy.io import whosmat

    file_bytes = file.seek(0, os.SEEK_END)
    if not header:
        file.seek(0)
        for name, shape, kind in whosmat(file):
            yield _Variable(name, shape, kind, 0, file_bytes, compressed=False)
        return
    order = "<" if header[126:128] == b"IM" else ">"
    position = HEADER_BYTES
    while position < file_bytes:
        file.seek(position)
        kind, num_bytes = struct.unpack(f"{order}II", file.read(8))
        compressed = kind == _COMPRESSED
        start = position + 8 if compressed else position
        length = min(num_bytes if compressed else num_bytes + 8, file_bytes - start)
        description = _content(file, start, length, DESCRIPTION_BYTES, compressed=compressed)
        ((name, shape, label), *_) = whosmat(io.BytesIO(header + description.getvalue()))
        yield _Variable(name, shape, label, start, length, compressed)
        position += 8 + num_bytes


def _load(file: BinaryIO, header: bytes, variable: _Variable, max_bytes: int, **options: Any) -> Any:
    from scipy.io import loadmat

    if not header:
        file.seek(0)  # nothing is compressed, so nothing exceeds the file
        return loadmat(file, variable_names=[variable.name], **options)[variable.name]
    content = _content(
        file, variable.start, variable.num_bytes, max_bytes + 1, compressed=variable.compressed, before=header
    )
    if content.tell() - len(header) > max_bytes:
        raise BadSignalError(f"variable {variable.name} of more than {max_bytes:,} bytes")
    content.seek(0)
    return loadmat(content, **options)[variable.name]


def _content(
    file: BinaryIO, start: int, num_bytes: int, max_bytes: int, *, compressed: bool, before: bytes = b""
) -> io.BytesIO:
    """Return `before` and at most `max_bytes` of the content, decompressed, of the bytes of a file from `start` on."""
    content = io.BytesIO()
    content.write(before)
    file.seek(start)
    if not compressed:
        content.write(file.read(min(num_bytes, max_bytes)))
        return content
    decoder, left, end = zlib.decompressobj(), num_bytes, len(before) + max_bytes
    while not decoder.eof and content.tell() < end:
        piece = decoder.unconsumed_tail or file.read(min(left, _CHUNK_BYTES))
        if not decoder.unconsumed_tail:
            left -= len(piece)
        decompressed = decoder.decompress(piece, min(end - content.tell(), _CHUNK_BYTES))
        if not piece and not decompressed:
            break
        content.write(decompressed)
    return content


def _choose(variables: list[_Variable], wanted: str | None) -> _Variable:
    if wanted is not None:
        found = [variable for variable in variables if variable.name == wanted]
        if not found:
            names = ", ".join(variable.name for variable in variables)
            raise BadSignalError(f"no variable {wanted!r}; the file has {names or 'none'}")
        return found[-1]
    large = [
        variable
        for variable in variables
        if variable.kind in NUMBER_BYTES and sum(side > 1 for side in variable.shape) > 1
    ]
    if len(large) != 1:
        names = ", ".join(variable.name for variable in large)
        raise BadSignalError(f"{len(large)} arrays ({names}); choose one with ?variable=NAME")
    return large[0]
