"""Verified reads of files that are copied elsewhere, so that no damaged data gets a new, valid checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import FileEntry, Manifest, Shard, ShardEntry, open_shard
from walloc_cdl.latents.packing import to_codes


class UnpackedCodes:
    """The codes of a shard of packed samples of one size, which are unpacked on access."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        """Return the codes of a sample, uint8 (K, h, w), or of several, (n, K, h, w), behind an axis of views."""
        layout = self._shard.layout
        return to_codes(self._shard.codes[rows], layout.spec.planes, layout.grid)


@dataclass(frozen=True, eq=False)
class ShardSamples:
    """The samples of one shard, in order."""

    codes: np.ndarray | UnpackedCodes
    """Codes: uint8 (N, K, h, w), (N, V, K, h, w) with views, (N, K, t) for audio, flat for ragged samples."""
    labels: np.ndarray | None
    """Labels, see `LabelSpec`; None for a data set without labels."""
    keys: list[str]
    """The samples' names in the source."""


def read_verified_shard(folder: Path, manifest: Manifest, entry: ShardEntry, *, checksums: bool = True) -> ShardSamples:
    """Read the samples of a shard of the data set `folder`, and compare each with its CRC32C.

    Without `checksums` the codes are not read. Raises `DamagedError`, naming the shard, for damaged samples.
    """
    path = folder / entry.name
    shard = open_shard(path, entry, manifest.layout)
    encoded = shard.encoded_keys(range(len(shard)))
    if checksums and (wrong := int((shard.checksums() != shard.crc32c).sum())):
        raise DamagedError(f"shard {path}: {wrong} of {len(shard)} samples fail their CRC32C; {REMEDY}")
    try:
        keys = [key.decode("utf-8") for key in encoded]
    except UnicodeDecodeError as error:
        raise DamagedError(f"shard {path}: a key is not UTF-8; {REMEDY}") from error
    codes = UnpackedCodes(shard) if manifest.layout.packed and not manifest.layout.ragged else shard.codes
    return ShardSamples(codes, shard.labels, keys)


def read_verified_file(path: Path, entry: FileEntry) -> bytes:
    """Read a file that a manifest or a description lists; raises `DamagedError` if size or SHA-256 differ from it."""
    if not path.is_file():
        raise DamagedError(f"{path}: missing, though it is listed; {REMEDY}")
    if (found := path.stat().st_size) != entry.num_bytes:
        raise DamagedError(f"{path}: {found} bytes, expected {entry.num_bytes}; {REMEDY}")
    data = path.read_bytes()
    if (digest := sha256_hex(data)) != entry.sha256:
        raise DamagedError(f"{path}: SHA-256 is {digest[:12]}…, expected {entry.sha256[:12]}…; {REMEDY}")
    return data


def matches_entry(path: Path, entry: FileEntry | ShardEntry) -> bool:
    """Return whether a file exists and has the size and SHA-256 of its manifest entry."""
    return path.is_file() and path.stat().st_size == entry.num_bytes and sha256_file(path) == entry.sha256
