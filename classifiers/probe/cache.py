"""Computed features in a folder, each file named by everything that its content depends on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifiers.probe.features import Features
from walloc_cdl.canonical import canonical_json, sha256_hex
from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CdlError
from walloc_cdl.files import make_folder, write_atomic
from walloc_cdl.training import load_tensors
from walloc_cdl.training.checkpoint import tensors_to_bytes

VERSION = 1
"""Raised when features of the same name are computed in another way."""


def features_key(features: Features, dataset: LatentDataset) -> dict[str, Any]:
    """Returns what the features of a data set depend on, as JSON; threads and device affect the last bits only."""
    return {
        "version": VERSION,
        "features": features.identity(),
        "manifest_sha256": dataset.manifest.digest(),
        "split": dataset.split,
        "view": dataset.view,
        "num_planes": dataset.spec.num_planes,
    }


def cached_features(
    features: Features, dataset: LatentDataset, folder: Path | None, compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """Returns the features (N, F) from the cache in `folder`, or computes them and writes them there.

    A file that is damaged or has another number of samples is replaced. Without a folder nothing is written.
    """
    if folder is None:
        return compute()
    key = features_key(features, dataset)
    path = folder / f"{sha256_hex(canonical_json(key))[:32]}.safetensors"
    if path.is_file():
        found = _load(path, key, len(dataset))
        if found is not None:
            return found
    values = compute()
    make_folder(folder)
    write_atomic(path, tensors_to_bytes({"features": torch.from_numpy(values)}, {"key": key}))
    return values


def _load(path: Path, key: dict[str, Any], count: int) -> np.ndarray | None:
    try:
        tensors, metadata = load_tensors(path)
    except CdlError:
        return None
    values = tensors.get("features")
    if metadata.get("key") != key or values is None or values.ndim != 2 or len(values) != count:
        return None
    return values.numpy()
