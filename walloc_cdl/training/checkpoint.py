"""Tensors and plain values in one safetensors file: weights, and the states of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import DamagedError

METADATA_KEY = "walloc_cdl"
"""The only metadata key: safetensors writes several keys in random order."""

REMEDY = "restore it from a copy or train again"
"""The remedy in every error about a run's files."""


def tensors_to_bytes(tensors: dict[str, Tensor], metadata: dict[str, Any] | None = None) -> bytes:
    """Returns the bytes of a safetensors file; tensors are stored in row-major order, whatever their memory format."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(plain, None if metadata is None else {METADATA_KEY: canonical_json(metadata).decode()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `tensors_to_bytes` for an untrusted file; raises `DamagedError`."""
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as safetensors ({error}); {REMEDY}") from error


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
            f"{origin}: {differing[0]!r} is {'missing' if differing[0] in targets else 'unknown'}, and "
            f"{len(differing) - 1} more names differ; it was written by another version or is damaged: {REMEDY}"
        )
    for name, target in targets.items():
        value = tensors[name]
        if value.shape != target.shape or value.dtype != target.dtype:
            raise DamagedError(
                f"{origin}: {name!r} is {value.dtype} {list(value.shape)}, "
                f"expected {target.dtype} {list(target.shape)}; {REMEDY}"
            )
