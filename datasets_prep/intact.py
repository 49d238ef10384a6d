"""Shards read to be copied elsewhere: nothing that is damaged may travel on under a fresh checksum."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents import Manifest, ShardEntry, open_shard


@dataclass(frozen=True, eq=False)
class ShardSamples:
    """The samples of one shard, in order."""

    codes: np.ndarray
    """As in the shard: uint8 (N, K, h, w), with views (N, V, K, h, w), (N, K, t) of audio; of ragged geometry flat."""
    labels: np.ndarray | None
    """As `LabelSpec` says; None for a data set without labels."""
    keys: list[str]
    """The samples' names in the source."""


def read_intact(folder: Path, manifest: Manifest, entry: ShardEntry, *, checksums: bool = True) -> ShardSamples:
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


def plain_part(name: str) -> str:
    """The name as a part of a plain path: letters, digits, `_`, `.`, `-`, beginning with none of the last two.

    >>> plain_part("été 1.jpg")
    '_t__1.jpg'
    """
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".-") or "_"
