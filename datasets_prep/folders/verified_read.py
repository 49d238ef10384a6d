"""Files read to be copied elsewhere: nothing that is damaged may travel on under a fresh checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from walloc_cdl.canonical import sha256_file, sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import FileEntry, Manifest, ShardEntry, open_shard


@dataclass(frozen=True, eq=False)
class ShardSamples:
    """The samples of one shard, in order."""

    codes: np.ndarray
    """As in the shard: uint8 (N, K, h, w), with views (N, V, K, h, w), (N, K, t) of audio; of ragged geometry flat."""
    labels: np.ndarray | None
    """As `LabelSpec` says; None for a data set without labels."""
    keys: list[str]
    """The samples' names in the source."""


def read_verified_shard(folder: Path, manifest: Manifest, entry: ShardEntry, *, checksums: bool = True) -> ShardSamples:
    """The samples of a shard of the data set `folder`, every one of them held against its CRC32C.

    Without `checksums` the codes are not read. Raises `DamagedError`, naming the shard, for samples that are not
    what was written.
    """
    path = folder / entry.name
    shard = open_shard(path, entry, manifest.layout)
    encoded = shard.encoded_keys(range(len(shard)))
    if checksums and (wrong := int((shard.checksums() != shard.crc32c).sum())):
        raise DamagedError(f"shard {path}: {wrong} of {len(shard)} samples fail their CRC32C; {REMEDY}")
    try:
        keys = [key.decode("utf-8") for key in encoded]
    except UnicodeDecodeError as error:
        raise DamagedError(f"shard {path}: a key is no UTF-8; {REMEDY}") from error
    return ShardSamples(shard.codes, shard.labels, keys)


def read_verified_file(path: Path, entry: FileEntry) -> bytes:
    """The content of a file that a manifest or a description lists; `DamagedError` unless it is that."""
    if not path.is_file():
        raise DamagedError(f"{path}: missing, though it is listed; {REMEDY}")
    if (found := path.stat().st_size) != entry.num_bytes:
        raise DamagedError(f"{path}: {found} bytes, expected {entry.num_bytes}; {REMEDY}")
    data = path.read_bytes()
    if (digest := sha256_hex(data)) != entry.sha256:
        raise DamagedError(f"{path}: SHA-256 is {digest[:12]}…, expected {entry.sha256[:12]}…; {REMEDY}")
    return data


def matches_entry(path: Path, entry: FileEntry | ShardEntry) -> bool:
    """Whether a file is there and is what a manifest lists."""
    return path.is_file() and path.stat().st_size == entry.num_bytes and sha256_file(path) == entry.sha256
