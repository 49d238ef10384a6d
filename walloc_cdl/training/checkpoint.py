"""Tensors and plain values in one safetensors file: weights, and the states of training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.fields import damaged
from walloc_cdl.json_files import parse_json

_NO_DIGEST = "0" * 64
_DIGEST = re.compile(rb'\\"content_sha256\\":\\"([0-9a-f]{64})\\"')
"""As it stands in the header: JSON in a string of JSON."""

METADATA_KEY = "walloc_cdl"
"""The only metadata key: safetensors writes several keys in random order."""

REMEDY = "restore it from a copy or train again"
"""The remedy in every error about a run's files."""


def tensors_to_bytes(tensors: dict[str, Tensor], metadata: dict[str, Any] | None = None) -> bytes:
    """Returns the bytes of a safetensors file; tensors are stored in row-major order, whatever their memory format."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(plain, None if metadata is None else {METADATA_KEY: canonical_json(metadata).decode()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `tensors_to_bytes` for an untrusted file; raises `DamagedError`, also for NaN and infinities."""
    try:
        with safe_open(path, "pt") as file:
            metadata = parse_json((file.metadata() or {}).get(METADATA_KEY, "{}").encode("utf-8"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedError(f"{path}: not readable as safetensors ({one_line(error)}); {REMEDY}") from error
    if not isinstance(metadata, dict):
        raise damaged(f"{path}, {METADATA_KEY}", metadata, "an object", REMEDY)
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DamagedError(f"{path}: {name[:60]!r} has values that are not finite; {REMEDY}")
    return tensors, metadata


def checkpoint_to_bytes(tensors: dict[str, Tensor], values: dict[str, Any]) -> bytes:
    """Returns the bytes of a checkpoint, a file of `tensors_to_bytes` with a digest of its content among the values."""
    data = tensors_to_bytes(tensors, {**values, "content_sha256": _NO_DIGEST})
    place = _find_digest(data)
    assert place is not None
    return b"".join((data[: place.start(1)], sha256_hex(data).encode(), data[place.end(1) :]))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `checkpoint_to_bytes`; raises `DamagedError` for a file that differs from what was written."""
    data = path.read_bytes()
    place = _find_digest(data)
    if place is None:
        raise DamagedError(
            f"{path}: not readable as safetensors with a digest; it is damaged, or of another version: {REMEDY}"
        )
    expected = place[1].decode()
    found = sha256_hex(b"".join((data[: place.start(1)], _NO_DIGEST.encode(), data[place.end(1) :])))
    if found != expected:
        raise DamagedError(f"{path}: SHA-256 of the content is {found[:12]}…, expected {expected[:12]}…; {REMEDY}")
    return load_tensors(path)


def _find_digest(data: bytes) -> re.Match[bytes] | None:
    """Returns where the digest stands in the header of a safetensors file."""
    return _DIGEST.search(data, 8, min(len(data), 8 + int.from_bytes(data[:8], "little")))


def copy_into(targets: dict[str, Tensor], tensors: dict[str, Tensor], *, origin: str) -> None:
    """Copy `tensors` into `targets`; raises `DamagedError`, naming `origin`, if names, shapes or dtypes differ."""
    require_same_tensors(targets, tensors, origin=origin)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def require_same_tensors(targets: dict[str, Tensor], tensors: dict[str, Tensor], *, origin: str) -> None:
    """Raise `DamagedError`, naming `origin`, if names, shapes or dtypes differ; `targets` may be on the meta device."""
    differing = sorted(targets.keys() ^ tensors.keys())
    if differing:
        raise DamagedError(
            f"{origin}: {differing[0][:60]!r} is {'missing' if differing[0] in targets else 'unknown'}, and "
            f"{len(differing) - 1} more names differ; it was written by another version or is damaged: {REMEDY}"
        )
    for name, target in targets.items():
        value = tensors[name]
        if value.shape != target.shape or value.dtype != target.dtype:
            raise DamagedError(
                f"{origin}: {name!r} is {value.dtype} {list(value.shape)}, "
                f"expected {target.dtype} {list(target.shape)}; {REMEDY}"
            )
