"""Reading one shard: a strict parser of its header over a memory map.

The file is untrusted: nothing of it is used before the size of the file, the header and every offset,
shape and type in it have been checked against each other and against the manifest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY, Fields, parse_json, require_integer
from walloc_cdl.latents.manifest import FORMAT_VERSION, ShardEntry
from walloc_cdl.latents.writer import METADATA_KEY
from walloc_cdl.spec import LatentSpec

MAX_HEADER_BYTES = 1 << 16
"""A header of ours takes about 900 bytes."""

DTYPES = {"U8": np.dtype("u1"), "U32": np.dtype("<u4"), "I64": np.dtype("<i8")}
"""The safetensors types that may occur."""


@dataclass(frozen=True, eq=False)
class Shard:
    """The arrays of one shard, views of a private memory map: writing to them never reaches the file."""

    codes: np.ndarray
    """uint8 (N, K, h, w), or (N, K, t) of audio."""
    labels: np.ndarray | None
    """int64 (N,), -1 for unknown; None for a data set without labels."""
    crc32c: np.ndarray
    """uint32 (N,), of each sample's codes, label and key."""
    key_bytes: np.ndarray
    """uint8: all keys, UTF-8, one after the other."""
    key_offsets: np.ndarray
    """int64 (N + 1,): where each key begins, and the end of the last one."""

    def __len__(self) -> int:
        return len(self.codes)

    def keys(self, rows: Iterable[int]) -> list[str]:
        """The names of the samples in `rows`, in that order."""
        return [key.decode("utf-8", "replace") for key in self.encoded_keys(rows)]

    def encoded_keys(self, rows: Iterable[int]) -> list[bytes]:
        """The same as stored, UTF-8."""
        offsets = self.key_offsets
        return [self.key_bytes[offsets[row] : offsets[row + 1]].tobytes() for row in rows]


def open_shard(path: Path | str, entry: ShardEntry, spec: LatentSpec, latent_shape: tuple[int, ...]) -> Shard:
    """Map a shard and check all of its structure; the codes themselves are not read.

    Raises `DamagedError`, naming the shard, if it is missing, of another size than the manifest says,
    or anything but a well-formed shard of `entry.num_samples` samples of `latent_shape` and `spec`.
    """
    path = Path(path)
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        raise DamagedError(f"shard {path} cannot be read ({error.strerror}); {REMEDY}") from error
    if num_bytes != entry.num_bytes:
        raise DamagedError(f"shard {path}: {num_bytes} bytes, expected {entry.num_bytes}; {REMEDY}")
    try:
        return _parse(_map_file(path, num_bytes), entry, spec, latent_shape)
    except _HeaderError as error:
        raise DamagedError(f"shard {path}: {error}; {REMEDY}") from error


class _HeaderError(Exception):
    """What is wrong with a header; `open_shard` adds which shard and the remedy."""


def _map_file(path: Path, num_bytes: int) -> np.ndarray:
    """A private (copy-on-write) map of the whole file, uint8.

    By torch, because `numpy.memmap` keeps a file descriptor open for as long as the map lives, so that
    a data set of a thousand shards would run into the usual limit of 1,024.
    """
    import torch

    if num_bytes < 8:
        raise _HeaderError(f"{num_bytes} bytes are no safetensors file")
    try:
        return torch.from_file(os.fspath(path), shared=False, size=num_bytes, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise _HeaderError(f"cannot be mapped ({str(error).splitlines()[0]})") from error


def _parse(data: np.ndarray, entry: ShardEntry, spec: LatentSpec, latent_shape: tuple[int, ...]) -> Shard:
    header, body = _split_header(data)
    metadata = header.pop("__metadata__", None)
    expected = {"format_version": FORMAT_VERSION, "spec": spec.to_json(), "split": entry.split}
    if metadata != {METADATA_KEY: canonical_json(expected).decode("utf-8")}:
        raise _HeaderError(f"metadata {str(metadata)[:60]}… is not that of the manifest's split and spec")
    arrays = _arrays(header, body)
    optional = {"labels"} & set(arrays)
    if set(arrays) != {"codes", "crc32c", "keys", "key_offsets"} | optional:
        raise _HeaderError(f"tensors {sorted(arrays)}, expected codes, crc32c, key_offsets, keys and perhaps labels")
    num = entry.num_samples
    layout = {
        "codes": ("u1", (num, *latent_shape)),
        "labels": ("<i8", (num,)),
        "crc32c": ("<u4", (num,)),
        "keys": ("u1", (arrays["keys"].size,)),
        "key_offsets": ("<i8", (num + 1,)),
    }
    for name, array in arrays.items():
        dtype, shape = layout[name]
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise _HeaderError(f"{name} is {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} {list(shape)}")
    offsets = arrays["key_offsets"]
    if offsets[0] != 0 or offsets[-1] != arrays["keys"].size or (offsets[1:] < offsets[:-1]).any():
        raise _HeaderError(f"key offsets do not rise from 0 to {arrays['keys'].size}")
    return Shard(arrays["codes"], arrays.get("labels"), arrays["crc32c"], arrays["keys"], offsets)


def _split_header(data: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """The JSON header and the bytes after it."""
    length = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, data.size - 8):
        raise _HeaderError(f"header of {length} bytes, expected 2 to {min(MAX_HEADER_BYTES, data.size - 8)}")
    try:
        header = parse_json(data[8 : 8 + length].tobytes())
    except ValueError as error:
        raise _HeaderError(f"header is not readable as JSON ({error})") from error
    if not isinstance(header, dict):
        raise _HeaderError("header is no JSON object")
    return header, data[8 + length :]


def _arrays(header: dict[str, Any], body: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors, once their ranges are known to tile `body` without holes or overlaps."""
    ranges: list[tuple[int, int, str]] = []
    arrays = {}
    for name, value in header.items():
        dtype, shape, begin, end = _tensor_entry(name, value)
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise _HeaderError(f"{name} of shape {list(shape)} does not fill its {end - begin} bytes")
        if end > body.size:
            raise _HeaderError(f"{name} ends at byte {end} of {body.size}")
        if (body.__array_interface__["data"][0] + begin) % dtype.itemsize:
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
    """Type, shape and range of one tensor of the header."""
    try:
        fields = Fields(value, f"tensor {name[:40]!r}")
        fields.require_names({"dtype", "shape", "data_offsets"})
        dtype = DTYPES.get(fields.text("dtype"))
        shape = tuple(require_integer(size, fields.where) for size in fields.items("shape"))
        offsets = [require_integer(offset, fields.where) for offset in fields.items("data_offsets")]
    except DamagedError as error:
        raise _HeaderError(str(error).removesuffix(f"; {REMEDY}")) from error
    if dtype is None:
        raise _HeaderError(f"tensor {name[:40]!r} has a type that is none of {', '.join(DTYPES)}")
    if len(shape) > 4 or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise _HeaderError(f"tensor {name[:40]!r} has shape {list(shape)[:6]} and range {offsets[:3]}")
    return dtype, shape, offsets[0], offsets[1]
