"""Writing shards as a stream of codes, and the manifest last.

Why codes come first: in the file, labels, checksums and the header stand before the codes, and their size depends on
how many samples turn out usable. So the codes begin where the planned number of samples would put them; the rest,
some 40 bytes and a key per sample, is held in memory and written at the end. If fewer samples came, the codes move, a
megabyte at a time, which costs a copy within the page cache; a separate file for the codes would have cost every
shard a copy. The SHA-256 is computed from the file at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from walloc_cdl.canonical import sha256_stream
from walloc_cdl.confinement import confined
from walloc_cdl.errors import CallError
from walloc_cdl.fields import is_plain_path
from walloc_cdl.files import open_atomic, write_atomic
from walloc_cdl.latents.checksum import sample_checksums
from walloc_cdl.latents.copies import write_copies
from walloc_cdl.latents.header import header_bytes, shard_metadata
from walloc_cdl.latents.labels import infer_label_spec
from walloc_cdl.latents.layout import SampleLayout, TensorLayout, infer_layout
from walloc_cdl.latents.manifest import MANIFEST_NAME, SHARD_SUFFIX, Manifest, ShardEntry
from walloc_cdl.latents.manifest_file import manifest_bytes
from walloc_cdl.latents.move_range import move_range
from walloc_cdl.latents.packing import to_stored
from walloc_cdl.latents.statistics import samples_histogram
from walloc_cdl.latents.validation import require_byte_range, require_codes, require_fields, require_keys
from walloc_cdl.spec import LatentSpec

_EXPECTED_KEY_BYTES = 24
"""Expected length of a key, which decides the digits of the header's numbers; a wrong guess costs a move of the
codes."""

Codes = np.ndarray | Sequence[np.ndarray]
"""uint8 (N, K, h, w), (N, V, K, h, w) with views, (N, K, t) for audio; N arrays (K, h, w) or (K, t) if ragged.
Where samples are packed, their rows, (N, R) or (N, V, R), may take the place of codes unless they are ragged."""


class ShardWriter:
    """Writes one shard batch by batch; the same samples give the same bytes, whatever the batches.

    Codes are written at once, behind space for the metadata of `capacity` samples; if there are fewer samples, the
    codes move in the end. So memory does not grow with the codes, only by 40 bytes and a key per sample.

    The file appears under its name in `finish`. If the block ends without it, or by an exception, nothing is left.

    >>> with ShardWriter(folder, "train-00000.safetensors", layout=layout, split="train", capacity=8192) as writer:
    ...     for codes, labels, keys in batches:                                           # doctest: +SKIP
    ...         writer.append(codes, labels, keys)
    ...     entry, histogram = writer.finish()
    """

    def __init__(self, folder: Path | str, name: str, *, layout: SampleLayout, split: str, capacity: int) -> None:
        if not name.endswith(SHARD_SUFFIX) or not is_plain_path(name) or "/" in name:
            raise CallError(f"shard name {name!r} is not a plain file name ending in {SHARD_SUFFIX}")
        if problem := layout.problem():
            raise CallError(f"{name}: {problem}")
        self.name = name
        self.split = split
        self.layout = layout
        self.capacity = capacity
        self.histogram = np.zeros((layout.spec.latent_channels, 256), np.int64)
        """int64 (K, 256): how often each byte occurs in each channel of the appended codes."""
        self._metadata = shard_metadata(layout.spec, split)
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in ("crc32c", "shapes", "sizes", "labels")}
        self._keys: list[bytes] = []
        self._code_bytes = 0
        self._replacement = open_atomic(Path(folder) / name)
        self._open = False

    def __enter__(self) -> ShardWriter:
        self._file = self._replacement.__enter__()
        self._open = True
        self._begin = self._prefix_bytes(self.capacity, _EXPECTED_KEY_BYTES * self.capacity)
        self._file.seek(self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._open = False
            reason = error or CallError(f"{self.name}: the block ended without finish()")
            self._replacement.__exit__(type(reason), reason, trace)

    def append(
        self, codes: Codes, labels: np.ndarray | None, keys: Sequence[str], *, sizes: np.ndarray | None = None
    ) -> None:
        """Add samples: codes (see `Codes`), labels (see `LabelSpec`; None without labels) and keys.

        `sizes`, int32 (N, 2), or (N, 1) for audio, are for ragged geometry only: the height and width (or
        length) of each signal before it was padded to the stride. Raises `CallError` for anything that the format
        cannot hold, and for more samples than the capacity.
        """
        layout = self.layout
        if len(self._keys) + len(keys) > self.capacity:
            raise CallError(f"{self.name}: more samples than its capacity of {self.capacity}")
        codes = require_codes(self.name, layout, codes)
        encoded = require_keys(self.name, keys, len(codes))
        fields = require_fields(self.name, layout, codes, labels, sizes)
        histogram = samples_histogram(codes, layout)
        require_byte_range(self.name, histogram, layout.spec)
        stored = to_stored(codes, layout)
        for array in stored if layout.ragged else [stored]:
            self._file.write(memoryview(array).cast("B") if array.size else b"")
            self._code_bytes += array.size
        self.histogram += histogram
        for column, values in fields.items():
            self._columns[column].append(values)
        self._columns["crc32c"].append(sample_checksums(stored, list(fields.values()), encoded))
        self._keys += encoded

    def finish(self) -> tuple[ShardEntry, np.ndarray]:
        """Complete the file; returns its entry of the manifest and the histogram, int64 (K, 256)."""
        keys = b"".join(self._keys)
        tensors = self._tensors(len(self._keys), len(keys))
        begin = self._prefix_bytes(len(self._keys), len(keys))
        move_range(self._file, self._begin, self._code_bytes, begin)
        self._file.seek(0)
        index = hashlib.sha256()
        self._write_indexed(header_bytes(self._metadata, tensors), index)
        for name, tensor in tensors.items():
            if name == "codes":
                self._file.seek(self._code_bytes, 1)
            else:
                self._write_indexed(keys if name == "keys" else self._column(name, tensor), index)
        self._file.truncate()
        num_bytes = self._file.tell()
        self._file.seek(0)
        sha256 = sha256_stream(self._file)
        entry = ShardEntry(self.name, self.split, len(self._keys), num_bytes, sha256, index.hexdigest())
        self._open = False
        self._replacement.__exit__(None, None, None)
        return entry, self.histogram

    def _write_indexed(self, data: bytes, index: hashlib._Hash) -> None:
        """Write data other than codes and add it to the index hash."""
        self._file.write(data)
        index.update(data)

    def _column(self, name: str, tensor: TensorLayout) -> bytes:
        """Return the content of one tensor."""
        if name == "key_offsets":
            values = np.cumsum([0, *map(len, self._keys)], dtype=np.int64)
        elif name == "offsets":
            counts = [self.layout.stored_bytes(shapes.astype(np.int64)) for shapes in self._columns["shapes"]]
            values = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
        else:
            parts = self._columns["labels" if name == self.layout.labels.tensor_name else name]
            values = np.concatenate([np.empty((0, *tensor.shape[1:]), tensor.dtype), *parts])
        return np.ascontiguousarray(values, tensor.dtype).tobytes()

    def _tensors(self, num_samples: int, key_bytes: int) -> dict[str, TensorLayout]:
        return self.layout.tensors(num_samples, code_bytes=self._code_bytes, key_bytes=key_bytes)

    def _prefix_bytes(self, num_samples: int, key_bytes: int) -> int:
        """Return the byte at which the codes begin."""
        tensors = self._tensors(num_samples, key_bytes)
        before = list(tensors)[: list(tensors).index("codes")]
        return len(header_bytes(self._metadata, tensors)) + sum(tensors[name].num_bytes for name in before)


def write_shard(
    folder: Path | str,
    name: str,
    *,
    spec: LatentSpec,
    split: str,
    codes: Codes,
    labels: np.ndarray | None,
    keys: Sequence[str],
    sizes: np.ndarray | None = None,
    layout: SampleLayout | None = None,
) -> ShardEntry:
    """Write one shard of samples that are all in memory; returns its entry of the manifest.

    The arguments are those of `ShardWriter.append`. Without a `layout`, geometry (a list of codes is ragged), views
    and kind of label are inferred from the arrays. N may be 0.
    """
    layout = layout or infer_layout(spec, codes, infer_label_spec(labels))
    with ShardWriter(folder, name, layout=layout, split=split, capacity=len(codes)) as writer:
        writer.append(codes, labels, keys, sizes=sizes)
        return writer.finish()[0]


def write_manifest(folder: Path | str, manifest: Manifest) -> None:
    """Write the copies and the manifest, which makes a folder of shards a data set: call it last, only on success.

    Raises `CallError` for a manifest that contradicts itself, `DamagedError` for a file, other than a shard, that
    differs from its entry.
    """
    data = manifest_bytes(manifest)
    with confined(folder):
        write_copies(Path(folder), manifest)
        write_atomic(Path(folder) / MANIFEST_NAME, data)
