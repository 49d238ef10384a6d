"""Samples of latents with bit planes between codes and rows, the form in which they are stored.

In fixed geometry a stored sample is one row for each view, see `walloc_cdl.planes.rows`. A ragged sample is the row
of its own grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.fields import REMEDY
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.latents.manifest import Manifest
from walloc_cdl.planes.levels import FILE_PATH, MAX_FILE_BYTES, LevelTables, levels_from_bytes

Samples = np.ndarray | Sequence[np.ndarray]
"""Samples as `ShardWriter.append` takes them."""


def load_levels(folder: Path, manifest: Manifest) -> LevelTables | None:
    """Read the levels of a data set of latents with bit planes; None for others.

    Raises `DamagedError` if their file is missing, differs from its entry, or is broken.
    """
    if manifest.spec.planes is None:
        return None
    path, entry = folder / FILE_PATH, manifest.files.get(FILE_PATH)
    if entry is None or not path.is_file():
        raise DamagedError(f"{path}: missing, though the latents have bit planes; {REMEDY}")
    data = path.read_bytes() if path.stat().st_size == entry.num_bytes <= MAX_FILE_BYTES else b""
    if sha256_hex(data) != entry.sha256:
        raise DamagedError(f"{path}: differs from what the manifest lists; {REMEDY}")
    levels = levels_from_bytes(data, origin=str(path))
    levels.require_fit(manifest.spec, origin=str(path))
    return levels


def are_rows(samples: Samples, layout: SampleLayout) -> bool:
    """Return whether samples of a packed layout are rows, uint8 (N, R) or (N, V, R), told by the number of axes."""
    is_fixed = layout.packed and not layout.ragged and isinstance(samples, np.ndarray)
    return is_fixed and samples.ndim == 1 + len(layout.stored_shape)


def to_stored(samples: Samples, layout: SampleLayout) -> Samples:
    """Return samples, codes or rows, as they are stored: an array of N samples, or N arrays if they are ragged."""
    if not layout.packed or are_rows(samples, layout):
        return samples
    from walloc_cdl.kernels.cpu.planes import pack  # numba takes half a second to import

    planes = layout.spec.planes or ()
    if isinstance(samples, np.ndarray):
        rows = pack(np.ascontiguousarray(samples).reshape(-1, *layout.latent_shape), planes)
        return rows.reshape(len(samples), *layout.stored_shape)
    return [pack(sample[None], planes)[0] for sample in samples]


def to_codes(stored: np.ndarray, planes: tuple[int, ...] | None, grid: Sequence[int]) -> np.ndarray:
    """Return the codes, uint8 (…, K, *grid), of stored rows of these bit planes, uint8 (…, at least R)."""
    from walloc_cdl.kernels.cpu.planes import unpack

    rows = stored.reshape(-1, stored.shape[-1])
    codes = unpack(rows, planes or (), grid)
    return codes.reshape(*stored.shape[:-1], *codes.shape[1:])


def has_padding_bits(stored: np.ndarray, num_planes: int, grid: Sequence[int]) -> np.ndarray:
    """Return which of the samples, uint8 (N, …, R), have a bit set behind the last position of a plane, bool (N,)."""
    positions = math.prod(grid)
    if not positions % 8 or not stored.size:
        return np.zeros(len(stored), bool)
    ends = stored.reshape(len(stored), -1, num_planes, -(-positions // 8))[..., -1]
    return (ends >> np.uint8(positions % 8)).any((1, 2))
