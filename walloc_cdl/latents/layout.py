"""The layout that all samples of a data set share, which determines the tensors of its shards.

It consists of geometry, views and labels. The manifest gives the layout, and both the writer and the parser derive a
shard's tensors from it, so that neither can store what the other does not know. Views have one size, and ragged
samples have one view: both together would need offsets for each view, which has no use, since crops of a ragged
sample are cut out of its latents when they are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from walloc_cdl.errors import CallError
from walloc_cdl.latents.labels import LabelSpec
from walloc_cdl.planes.rows import row_bytes
from walloc_cdl.spec import LatentSpec

TYPES = {
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}
"""The safetensors types that may occur, in the order in which the safetensors package writes tensors."""


@dataclass(frozen=True)
class TensorLayout:
    """Type and shape of one tensor of a shard."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class SampleLayout:
    """Geometry, views and label of the samples of a data set.

    Fixed geometry stores codes as one array, (N, K, h, w) or, with V views, (N, V, K, h, w). Ragged geometry
    stores them sample after sample, with each sample's shape and the size of its signal before padding. Latents with
    bit planes are packed: a row of bytes, see `walloc_cdl.planes.rows`, takes the place of the codes (K, h, w).
    """

    spec: LatentSpec
    latent_shape: tuple[int | None, ...]
    """(K, h, w) or (K, t); (K, None, None) or (K, None) where samples differ in size."""
    labels: LabelSpec = field(default_factory=LabelSpec)
    num_views: int = 1
    """Stored variants of each sample; if it is 1, the codes have no view axis."""

    @property
    def ragged(self) -> bool:
        """Whether samples differ in size."""
        return None in self.latent_shape

    @property
    def view_axis(self) -> tuple[int, ...]:
        """(V,), or () for a single view."""
        return (self.num_views,) if self.num_views > 1 else ()

    @property
    def packed(self) -> bool:
        """Whether samples are stored as rows of bit planes."""
        return self.spec.planes is not None

    @property
    def grid(self) -> tuple[int, ...]:
        """(h, w) or (t,) of fixed geometry."""
        return tuple(side or 0 for side in self.latent_shape[1:])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of the codes of one sample of fixed geometry: (K, h, w), or (V, K, h, w) with views."""
        return (*self.view_axis, *(side or 0 for side in self.latent_shape))

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape in which one view of a sample of fixed geometry is stored: (R,) if it is packed, or else (K, h, w)."""
        return (row_bytes(self.spec, self.grid),) if self.packed else (self.spec.latent_channels, *self.grid)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in which a sample of fixed geometry is stored: `view_shape` behind the axis of views."""
        return (*self.view_axis, *self.view_shape)

    def with_planes(self, num_planes: int) -> SampleLayout:
        """Return the layout of the first bit planes of these samples; see `LatentSpec.with_planes`."""
        spec = self.spec.with_planes(num_planes)
        return replace(self, spec=spec, latent_shape=(spec.latent_channels, *self.latent_shape[1:]))

    def stored_bytes(self, shapes: np.ndarray) -> np.ndarray:
        """Return the bytes of ragged samples whose codes have `shapes`, (N, 3) or (N, 2), in the type of `shapes`."""
        if not self.packed:
            return shapes.prod(1)
        return self.spec.num_planes * -(-shapes[:, 1:].prod(1) // 8)

    def tensors(self, num_samples: int, *, code_bytes: int, key_bytes: int) -> dict[str, TensorLayout]:
        """Return all tensors of a shard by name, in the order of the file.

        `code_bytes` is used for ragged geometry only.
        """
        axes = len(self.latent_shape)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "key_offsets": ("I64", (num_samples + 1,)),
            "crc32c": ("U32", (num_samples,)),
            "codes": ("U8", (code_bytes,) if self.ragged else (num_samples, *self.stored_shape)),
            "keys": ("U8", (key_bytes,)),
        }
        if self.ragged:
            shapes["offsets"] = ("I64", (num_samples + 1,))
            shapes["shapes"] = ("I32", (num_samples, axes))
            shapes["sizes"] = ("I32", (num_samples, axes - 1))
        if name := self.labels.tensor_name:
            dtype = next(key for key, dtype in TYPES.items() if dtype == self.labels.dtype)
            shapes[name] = (dtype, (num_samples, *self.labels.sample_shape))
        rank = list(TYPES)
        order = sorted(shapes, key=lambda name: (rank.index(shapes[name][0]), name))
        return {name: TensorLayout(TYPES[shapes[name][0]], shapes[name][1]) for name in order}

    def invalid_sizes(self, shapes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return which signals of `sizes` (N, 2) or (N, 1) cannot have codes of `shapes` (N, 3) or (N, 2): bool (N,).

        A signal has at least one pixel (or sample) in each direction, and no more than the grid covers.
        """
        covered = (shapes[:, 1:].astype(np.int64) - self.spec.extra_frames) * self.spec.stride
        return ((sizes < 1) | (sizes > covered)).any(1)

    def problem(self) -> str | None:
        """Describe the first contradiction in this layout; None for a layout that can be stored."""
        channels, *sides = self.latent_shape
        if len(self.latent_shape) != len(self.spec.axes):
            wanted = ", ".join(self.spec.axes)
            return f"latent shape of {len(self.latent_shape)} sizes, {self.spec.kind} latents have [{wanted}]"
        if channels != self.spec.latent_channels:
            return f"latent shape has {channels} channels, its spec {self.spec.latent_channels}"
        if any(side is None for side in sides) != all(side is None for side in sides):
            return f"latent shape {list(self.latent_shape)} is fixed in one direction only"
        if self.num_views > 1 and self.ragged:
            return f"{self.num_views} views of samples that differ in size; views need fixed geometry"
        return self.labels.problem()


def infer_layout(spec: LatentSpec, codes: np.ndarray | list[np.ndarray], labels: LabelSpec) -> SampleLayout:
    """Return the layout of given codes: ragged for a list of samples, fixed (with or without views) for an array.

    Raises `CallError` for an array that is neither uint8 (N, K, …) nor uint8 (N, V, K, …).
    """
    if isinstance(codes, list):
        return SampleLayout(spec, (spec.latent_channels, *[None] * (len(spec.axes) - 1)), labels)
    num_axes = len(spec.axes)
    fits = codes.ndim in (num_axes + 1, num_axes + 2) and codes.shape[-num_axes] == spec.latent_channels
    if codes.dtype != np.uint8 or not fits:
        wanted = ", ".join(["N", str(spec.latent_channels), *spec.axes[1:]])
        raise CallError(f"codes are {codes.dtype} {list(codes.shape)}, expected uint8 [{wanted}]")
    views = codes.shape[1] if codes.ndim == num_axes + 2 else 1
    return SampleLayout(spec, codes.shape[-num_axes:], labels, views)
