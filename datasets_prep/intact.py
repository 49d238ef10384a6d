"""Shards read to be copied elsewhere: nothing that is damaged may travel on under a fresh checksum."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import Manifest, ShardEntry, open_shard
from walloc_cdl.latents.checksum import sample_checksums


@dataclass(frozen=True, eq=False)
class ShardSamples:
    """The samples of one shard, in order."""

    codes: np.ndarray
    """uint8 (N, K, h, w), or (N, K, t) of audio: views of a memory map."""
    labels: np.ndarray | None
    """int64 (N,), -1 where unknown; None for a data set without labels."""
    keys: list[str]
    """The samples' names in the source."""


def read_intact(folder: Path, manifest: Manifest, entry: ShardEntry, *, checksums: bool = True) -> ShardSamples:
    """The samples of a shard of the data set `folder`, every one of them held against its CRC32C.

    Without `checksums` the codes are not read. Raises `DamagedError`, naming the shard, for samples that are not
    what was written.
    """
    path = folder / entry.name
    shard = open_shard(path, entry, manifest.spec, manifest.latent_shape)
    encoded = shard.encoded_keys(range(len(shard)))
    if checksums:
        sums = sample_checksums(np.ascontiguousarray(shard.codes), shard.labels, encoded)
        if wrong := int((sums != shard.crc32c).sum()):
            raise DamagedError(f"shard {path}: {wrong} of {len(shard)} samples fail their CRC32C; {REMEDY}")
    try:
        keys = [key.decode("utf-8") for key in encoded]
    except UnicodeDecodeError as error:
        raise DamagedError(f"shard {path}: a key is no UTF-8; {REMEDY}") from error
    return ShardSamples(shard.codes, shard.labels, keys)


def plain_part(name: str) -> str:
    """The name as a part of a plain path: letters, digits, `_`, `.`, `-`, beginning with none of the last two.

    >>> plain_part("été 1.jpg")
    '_t__1.jpg'
    """
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".-") or "_"
