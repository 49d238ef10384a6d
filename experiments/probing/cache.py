"""The features of each condition on disk, in blocks of images, so that a comparison resumes and grows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from walloc_cdl.canonical import canonical_json
from walloc_cdl.files import make_folder, write_atomic

NAMES = ("features", "psnr_db", "num_bytes", "used")


@dataclass(frozen=True, eq=False)
class Block:
    """What is known of some images in one condition."""

    features: np.ndarray
    """float32 (n, F), of the n usable ones."""
    psnr_db: np.ndarray
    """float64 (n,), infinite for images that are restored exactly."""
    num_bytes: np.ndarray
    """int64 (n,)."""
    used: np.ndarray
    """Positions of the usable images in the block, int64 (n,)."""


class FeatureCache:
    """Blocks of features below a folder, which has one folder for each identity of a condition."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, identity: dict[str, Any], number: int) -> Path:
        """Returns the file of a block; `identity` is all that features depend on."""
        digest = hashlib.sha256(canonical_json(identity)).hexdigest()[:16]
        name = re.sub(r"[^\w.@-]+", "_", str(identity["condition"]))
        return self._folder / f"{name}-{digest}" / f"{number:05d}.safetensors"

    def load(self, identity: dict[str, Any], number: int) -> Block | None:
        """Returns a block; None if there is none, or if its file is damaged, which is then computed again."""
        path = self.path(identity, number)
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError, ValueError):
            return None
        if set(tensors) != set(NAMES) or len({len(tensors[name]) for name in NAMES}) != 1:
            return None
        return Block(*(tensors[name] for name in NAMES)) if tensors["features"].ndim == 2 else None

    def save(self, identity: dict[str, Any], number: int, block: Block) -> None:
        """Write a block."""
        path = self.path(identity, number)
        make_folder(path.parent)
        write_atomic(path, save({name: np.ascontiguousarray(getattr(block, name)) for name in NAMES}))
