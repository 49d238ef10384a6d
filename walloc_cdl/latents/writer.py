"""Writing: shards from codes; the manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.errors import CallError
from walloc_cdl.fields import is_plain_path
from walloc_cdl.files import write_atomic
from walloc_cdl.latents.checksum import sample_checksums
from walloc_cdl.latents.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SHARD_SUFFIX,
    Manifest,
    ShardEntry,
    manifest_bytes,
)
from walloc_cdl.spec import LatentSpec

METADATA_KEY = "walloc_cdl"
"""The only metadata key: with more, the safetensors package orders them at random."""


def write_shard(
    folder: Path | str,
    name: str,
    *,
    spec: LatentSpec,
    split: str,
    codes: np.ndarray,
    labels: np.ndarray | None,
    keys: Sequence[str],
) -> ShardEntry:
    """Write one shard and return its line of the manifest; the same arguments give the same bytes.

    `codes` is uint8 (N, K, h, w), or (N, K, t) of audio, `labels` int64 (N,) with -1 for unknown, or None;
    `keys` are N names of samples. N may be 0. Raises `CallError` for anything the format cannot hold.
    """
    if not name.endswith(SHARD_SUFFIX) or not is_plain_path(name) or "/" in name:
        raise CallError(f"shard name {name!r} is no plain file name ending in {SHARD_SUFFIX}")
    _require_writable(name, spec, codes, labels, keys)
    data = shard_bytes(spec=spec, split=split, codes=codes, labels=labels, keys=keys)
    write_atomic(Path(folder) / name, data)
    return ShardEntry(name, split, len(codes), len(data), sha256_hex(data))


def shard_bytes(
    *, spec: LatentSpec, split: str, codes: np.ndarray, labels: np.ndarray | None, keys: Sequence[str]
) -> bytes:
    """The content of a shard file, from arguments as for `write_shard`, unchecked."""
    encoded = [key.encode("utf-8") for key in keys]
    codes = np.ascontiguousarray(codes)
    tensors = {
        "codes": codes,
        "keys": np.frombuffer(b"".join(encoded), np.uint8),
        "key_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        "crc32c": sample_checksums(codes, labels, encoded),
    }
    if labels is not None:
        tensors["labels"] = np.ascontiguousarray(labels)
    metadata = {"format_version": FORMAT_VERSION, "spec": spec.to_json(), "split": split}
    return save(tensors, {METADATA_KEY: canonical_json(metadata).decode("utf-8")})


def write_manifest(folder: Path | str, manifest: Manifest) -> None:
    """Write the manifest, which makes a folder of shards a data set: call it last, and only on success."""
    write_atomic(Path(folder) / MANIFEST_NAME, manifest_bytes(manifest))


def _require_writable(
    name: str, spec: LatentSpec, codes: np.ndarray, labels: np.ndarray | None, keys: Sequence[str]
) -> None:
    if codes.dtype != np.uint8 or codes.ndim != 1 + len(spec.axes) or codes.shape[1] != spec.latent_channels:
        wanted = ", ".join(["N", str(spec.latent_channels), *spec.axes[1:]])
        raise CallError(f"{name}: codes are {codes.dtype} {list(codes.shape)}, expected uint8 [{wanted}]")
    low, high = spec.byte_range
    if codes.size and not low <= codes.min() <= codes.max() <= high:
        raise CallError(
            f"{name}: code bytes from {codes.min()} to {codes.max()}, expected {low} to {high}; store code + offset"
        )
    if labels is not None and (labels.dtype != np.int64 or labels.shape != (len(codes),)):
        raise CallError(f"{name}: labels are {labels.dtype} {list(labels.shape)}, expected int64 [{len(codes)}]")
    if labels is not None and labels.size and labels.min() < -1:
        raise CallError(f"{name}: label {labels.min()}, expected a class number, or -1 for unknown")
    if len(keys) != len(codes):
        raise CallError(f"{name}: {len(keys)} keys for {len(codes)} samples; each sample needs one")
    for key in keys:
        if any("\ud800" <= character <= "\udfff" for character in key):  # from file names that are no UTF-8
            raise CallError(f"{name}: key {key!r} cannot be written as UTF-8; rename the source sample")
