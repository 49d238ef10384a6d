"""Reading one shard: a memory map and a strict parser of the header.

The file is untrusted: none of its content is used before the size of the file, the header and every offset,
shape and type in it have been checked against each other and against the manifest.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.errors import DamagedError, first_line, system_reason
from walloc_cdl.fields import REMEDY, Fields, require_integer
from walloc_cdl.json_files import parse_json
from walloc_cdl.latents.checksum import sample_checksums
from walloc_cdl.latents.header import shard_metadata
from walloc_cdl.latents.layout import TYPES, SampleLayout
from walloc_cdl.latents.manifest import ShardEntry
from walloc_cdl.latents.packing import has_padding_bits, to_codes
from walloc_cdl.latents.statistics import samples_histogram

MAX_HEADER_BYTES = 1 << 18
"""The headers that this package writes take about 900 bytes, and those of packed samples about 4 bytes more for each
bit plane, of which there are at most `walloc_cdl.spec.MAX_PLANES`."""


@dataclass(frozen=True, eq=False)
class Shard:
    """The arrays of one shard, views of a private memory map: writing to them never reaches the file."""

    layout: SampleLayout
    codes: np.ndarray
    """As stored: uint8 (N, K, h, w), (N, V, K, h, w) with views, (N, K, t) for audio; rows (N, R) or (N, V, R) if the
    samples are packed; one-dimensional if ragged."""
    labels: np.ndarray | None
    """Class numbers, 0 and 1, or targets, see `LabelSpec`; None for a data set without labels."""
    crc32c: np.ndarray
    """uint32 (N,): checksum of each sample's codes, shape and size (if ragged), label and key."""
    key_bytes: np.ndarray
    """uint8: the concatenated keys, UTF-8."""
    key_offsets: np.ndarray
    """int64 (N + 1,): where each key begins, and the end of the last one."""
    offsets: np.ndarray | None = None
    """int64 (N + 1,): where each sample's codes begin in `codes`, and the end of the last; ragged only."""
    shapes: np.ndarray | None = None
    """int32 (N, 3), or (N, 2) for audio: the shape of each sample's codes; ragged only."""
    sizes: np.ndarray | None = None
    """int32 (N, 2), or (N, 1) for audio: the size of each signal before padding; ragged only."""
    file: np.ndarray | None = None
    """uint8: the whole file."""

    def __len__(self) -> int:
        return len(self.crc32c)

    def stored(self, row: int) -> np.ndarray:
        """Return a view of one sample as it is stored: codes, or a row for each view; one-dimensional if ragged."""
        return self.codes[row] if self.offsets is None else self.codes[self.offsets[row] : self.offsets[row + 1]]

    def sample_codes(self, row: int) -> np.ndarray:
        """Return the codes of one sample, uint8 (K, h, w), (V, K, h, w) or (K, t).

        They are a view of the map, or unpacked if the samples are packed.
        """
        stored = self.stored(row)
        if self.layout.packed:
            return to_codes(stored, self.layout.spec.planes, self.grid(row))
        return stored if self.shapes is None else stored.reshape(self.shapes[row])

    def grid(self, row: int) -> tuple[int, ...]:
        """Return the size of a sample's latent grid, (h, w) or (t,)."""
        return self.layout.grid if self.shapes is None else tuple(self.shapes[row, 1:].tolist())

    def checksums(self) -> np.ndarray:
        """Compute the value that `crc32c` must have, uint32 (N,), from everything that is stored."""
        fields = [field for field in (self.shapes, self.sizes, self.labels) if field is not None]
        samples = self.codes if self.offsets is None else [self.stored(row) for row in range(len(self))]
        return sample_checksums(samples, fields, self.encoded_keys(range(len(self))))

    def histogram(self) -> np.ndarray:
        """Count how often each byte occurs in each channel of the codes of all samples: int64 (K, 256)."""
        if self.offsets is None:
            return samples_histogram(self.codes, self.layout)
        histogram = np.zeros((self.layout.spec.latent_channels, 256), np.int64)
        for row in range(len(self)):
            histogram += samples_histogram([self.sample_codes(row)], self.layout)
        return histogram

    def rows_with_padding_bits(self) -> np.ndarray:
        """Return the samples that have bits set where a row has none, behind the end of a plane, int64."""
        layout, num_planes = self.layout, self.layout.spec.num_planes
        if not layout.packed:
            return np.empty(0, np.int64)
        if self.offsets is None:
            return np.flatnonzero(has_padding_bits(self.codes, num_planes, layout.grid))
        wrong = [has_padding_bits(self.stored(row)[None], num_planes, self.grid(row))[0] for row in range(len(self))]
        return np.flatnonzero(np.array(wrong, bool))

    def index_sha256(self) -> str:
        """Compute the SHA-256 of the file without the codes, which are not read: see `ShardEntry.index_sha256`."""
        assert self.file is not None
        begin = _address(self.codes) - _address(self.file) if self.codes.size else 0
        digest = hashlib.sha256(memoryview(self.file[:begin]))
        digest.update(memoryview(self.file[begin + self.codes.size :]))
        return digest.hexdigest()

    def keys(self, rows: Iterable[int]) -> list[str]:
        """Return the keys of the samples in `rows`, in that order; invalid UTF-8 is replaced."""
        return [key.decode("utf-8", "replace") for key in self.encoded_keys(rows)]

    def encoded_keys(self, rows: Iterable[int]) -> list[bytes]:
        """Return the keys as they are stored, in UTF-8."""
        offsets = self.key_offsets
        return [self.key_bytes[offsets[row] : offsets[row + 1]].tobytes() for row in rows]


def open_shard(path: Path | str, entry: ShardEntry, layout: SampleLayout) -> Shard:
    """Map a shard into memory and check its whole structure; the codes themselves are not read.

    Raises `DamagedError`, naming the shard, if it is missing, if its size differs from the entry's, or if it is not a
    well-formed shard of `entry.num_samples` samples of this `layout` (`Manifest.layout`).
    """
    path = Path(path)
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        raise DamagedError(f"shard {path} cannot be read ({system_reason(error)}); {REMEDY}") from error
    if num_bytes != entry.num_bytes:
        raise DamagedError(f"shard {path}: {num_bytes} bytes, expected {entry.num_bytes}; {REMEDY}")
    try:
        return _parse(_map_file(path, num_bytes), entry, layout)
    except _HeaderError as error:
        raise DamagedShardError(f"shard {path}: {error}; {REMEDY}", error.row) from error


class DamagedShardError(DamagedError):
    """A shard is not well-formed; `row` is the sample at fault if there is one."""

    def __init__(self, message: str, row: int | None) -> None:
        super().__init__(message)
        self.row = row


class _HeaderError(Exception):
    """A header or one row is invalid; `open_shard` adds the shard's name and the remedy."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def _map_file(path: Path, num_bytes: int) -> np.ndarray:
    """Return a private (copy-on-write) memory map of the whole file, uint8.

    torch maps it, because `numpy.memmap` keeps a file descriptor open for the lifetime of the map, so that
    a data set of a thousand shards would reach the usual limit of 1,024.
    """
    import torch

    if num_bytes < 8:
        raise _HeaderError(f"{num_bytes} bytes are not a safetensors file")
    try:
        return torch.from_file(os.fspath(path), shared=False, size=num_bytes, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise _HeaderError(f"cannot be mapped ({first_line(error)})") from error


def _parse(data: np.ndarray, entry: ShardEntry, layout: SampleLayout) -> Shard:
    header, body = _split_header(data)
    metadata = header.pop("__metadata__", None)
    if metadata != shard_metadata(layout.spec, entry.split):
        raise _HeaderError(f"metadata {str(metadata)[:60]}… does not match the manifest's split and spec")
    arrays = _arrays(header, body)
    num_bytes = {name: arrays[name].size if name in arrays else 0 for name in ("codes", "keys")}
    expected = layout.tensors(entry.num_samples, code_bytes=num_bytes["codes"], key_bytes=num_bytes["keys"])
    if set(arrays) != set(expected):
        raise _HeaderError(f"tensors {', '.join(sorted(arrays))}, expected {', '.join(sorted(expected))}")
    for name, array in arrays.items():
        dtype, shape = expected[name].dtype, expected[name].shape
        if array.dtype != dtype or array.shape != shape:
            raise _HeaderError(f"{name} is {array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}")
    _require_monotonic(arrays["key_offsets"], arrays["keys"].size, "key offsets")
    if layout.ragged:
        _require_ragged(arrays, layout)
    return Shard(
        layout,
        arrays["codes"],
        arrays.get(layout.labels.tensor_name or ""),
        arrays["crc32c"],
        arrays["keys"],
        arrays["key_offsets"],
        *(arrays.get(name) for name in ("offsets", "shapes", "sizes")),
        file=data,
    )


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _require_monotonic(offsets: np.ndarray, end: int, name: str) -> None:
    begins, ends = offsets[:-1], offsets[1:]
    invalid = (begins < 0) | (begins > ends) | (ends > end)
    invalid[:1] |= offsets[0] != 0
    invalid[-1:] |= offsets[-1] != end
    if invalid.any() or offsets[0] != 0 or offsets[-1] != end:
        row = int(np.flatnonzero(invalid)[0]) if invalid.any() else None
        raise _HeaderError(f"{name} do not increase from 0 to {end}", row)


def _require_ragged(arrays: dict[str, np.ndarray], layout: SampleLayout) -> None:
    """Check that offsets tile the codes, that each sample's shape gives its number of codes and covers its size."""
    offsets, shapes = arrays["offsets"], arrays["shapes"]
    _require_monotonic(offsets, arrays["codes"].size, "offsets")
    channels = layout.spec.latent_channels
    if (wrong := np.flatnonzero((shapes[:, 0] != channels) | (shapes < 1).any(1))).size:
        raise _HeaderError(
            f"sample {wrong[0]} has shape {shapes[wrong[0]].tolist()}, "
            f"expected {channels} channels of at least one position",
            int(wrong[0]),
        )
    # As floats: the product of three sizes may exceed int64, and any below 2^53 is exact.
    wrong = np.flatnonzero(layout.stored_bytes(shapes.astype(np.float64)) != np.diff(offsets))
    if wrong.size:
        shape = shapes[wrong[0]].tolist()
        raise _HeaderError(f"sample {wrong[0]} of shape {shape} has another number of codes", int(wrong[0]))
    if (wrong := np.flatnonzero(layout.invalid_sizes(shapes, arrays["sizes"]))).size:
        size = arrays["sizes"][wrong[0]].tolist()
        raise _HeaderError(f"sample {wrong[0]} of size {size} does not fit its codes", int(wrong[0]))


def _split_header(data: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Return the JSON header and the bytes after it."""
    length = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, data.size - 8):
        raise _HeaderError(f"header of {length} bytes, expected 2 to {min(MAX_HEADER_BYTES, data.size - 8)}")
    try:
        header = parse_json(data[8 : 8 + length].tobytes())
    except ValueError as error:
        raise _HeaderError(f"header is not readable as JSON ({error})") from error
    if not isinstance(header, dict):
        raise _HeaderError("header is not a JSON object")
    return header, data[8 + length :]


def _arrays(header: dict[str, Any], body: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tensors by name, after checking that their ranges tile `body` without gaps or overlaps."""
    ranges: list[tuple[int, int, str]] = []
    arrays = {}
    for name, value in header.items():
        dtype, shape, begin, end = _tensor_entry(name, value)
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise _HeaderError(f"{name} of shape {list(shape)} does not fill its {end - begin} bytes")
        if end > body.size:
            raise _HeaderError(f"{name} ends at byte {end} of {body.size}")
        if (_address(body) + begin) % dtype.itemsize:
            raise _HeaderError(f"{name} is not aligned to {dtype.itemsize} bytes")
        ranges.append((begin, end, name))
        arrays[name] = body[begin:end].view(dtype).reshape(shape)
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            raise _HeaderError(f"{name} begins at byte {begin}, expected {position}")
        position = end
    if position != body.size:
        raise _HeaderError(f"tensors end at byte {position} of {body.size}")
    return arrays


def _tensor_entry(name: str, value: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Return type, shape, and begin and end of one tensor of the header."""
    try:
        fields = Fields(value, f"tensor {name[:40]!r}")
        fields.require_names({"dtype", "shape", "data_offsets"})
        dtype = TYPES.get(fields.text("dtype"))
        shape = tuple(require_integer(size, fields.where) for size in fields.items("shape"))
        offsets = [require_integer(offset, fields.where) for offset in fields.items("data_offsets")]
    except DamagedError as error:
        raise _HeaderError(str(error).removesuffix(f"; {REMEDY}")) from error
    if dtype is None:
        raise _HeaderError(f"tensor {name[:40]!r} has an unknown type, expected one of {', '.join(TYPES)}")
    if len(shape) > 5 or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise _HeaderError(f"tensor {name[:40]!r} has shape {list(shape)[:6]} and range {offsets[:3]}")
    return dtype, shape, offsets[0], offsets[1]
