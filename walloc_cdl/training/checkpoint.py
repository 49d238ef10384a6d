"""Tensors and plain values in one safetensors file: weights, and the states of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.fields import damaged
from walloc_cdl.json_files import parse_json

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


def copy_into(targets: dict[str, Tensor], tensors: dict[str, Tensor], *, origin: str) -> None:
    """Copy `tensors` into `targets`; raises `DamagedError`, naming `origin`, if names, shapes or dtypes differ."""
    differing = sorted(targets.keys() ^ tensors.keys())
    if differing:
        raise DamagedError(
            f"{origin}: {differing[0][:60]!r} is {'missing' if differing[0] in targets else 'unknown'}, and "
            f"{len(differing) - 1} more names differ; it was written by another version or is damaged: {REMEDY}"
        )
    with torch.no_grad():
        for name, target in targets.items():
            value = tensors[name]
            if value.shape != target.shape or value.dtype != target.dtype:
                raise DamagedError(
                    f"{origin}: {name!r} is {value.dtype} {list(value.shape)}, "
                    f"expected {target.dtype} {list(target.shape)}; {REMEDY}"
                )
            target.copy_(value)
