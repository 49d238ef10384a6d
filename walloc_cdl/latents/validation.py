"""Validation of samples before any of them is written: the format must be able to hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from walloc_cdl.errors import CallError
from walloc_cdl.latents.labels import LabelSpec
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.latents.packing import are_rows, has_padding_bits
from walloc_cdl.spec import LatentSpec


def require_codes(
    name: str, layout: SampleLayout, codes: np.ndarray | Sequence[np.ndarray]
) -> np.ndarray | list[np.ndarray]:
    """Return the codes, C-contiguous; raises `CallError` unless they are uint8 of the layout's shape.

    Rows may take the place of packed codes; their padding bits must be zero.
    """
    channels, *sides = layout.latent_shape
    if isinstance(codes, np.ndarray) and are_rows(codes, layout):
        return _require_rows(name, layout, codes)
    if layout.ragged:
        wanted = ", ".join([str(channels), *layout.spec.axes[1:]])
        for sample in codes:
            fits = sample.ndim == len(layout.latent_shape) and sample.shape[0] == channels and sample.size
            if sample.dtype != np.uint8 or not fits:
                raise CallError(f"{name}: codes are {sample.dtype} {list(sample.shape)}, expected uint8 [{wanted}]")
        return [np.ascontiguousarray(sample) for sample in codes]
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.shape[1:] != layout.sample_shape:
        found = f"{codes.dtype} {list(codes.shape)}" if isinstance(codes, np.ndarray) else f"a {type(codes).__name__}"
        wanted = ", ".join(map(str, ["N", *layout.view_axis, channels, *sides]))
        raise CallError(f"{name}: codes are {found}, expected uint8 [{wanted}]")
    return np.ascontiguousarray(codes)


def _require_rows(name: str, layout: SampleLayout, rows: np.ndarray) -> np.ndarray:
    if rows.dtype != np.uint8 or rows.shape[1:] != layout.stored_shape:
        wanted = ", ".join(map(str, ["N", *layout.stored_shape]))
        raise CallError(f"{name}: rows are {rows.dtype} {list(rows.shape)}, expected uint8 [{wanted}]")
    if wrong := int(has_padding_bits(rows, layout.spec.num_planes, layout.grid).sum()):
        raise CallError(
            f"{name}: {wrong} rows with padding bits that are not zero; pack codes with walloc_cdl.planes.rows"
        )
    return np.ascontiguousarray(rows)


def require_byte_range(name: str, histogram: np.ndarray, spec: LatentSpec) -> None:
    """Raise `CallError` if the histogram, int64 (K, 256), of codes counts bytes that cannot occur in them."""
    if spec.planes is not None:
        for channel, bits in enumerate(spec.channel_bits):
            if histogram[channel, 2**bits :].any():
                raise CallError(
                    f"{name}: code {np.flatnonzero(histogram[channel])[-1]} of channel {channel}, expected 0 to "
                    f"{2**bits - 1}; encode with the codec of these bit planes"
                )
        return
    low, high = spec.byte_range
    found = np.flatnonzero(histogram.any(0))
    if found.size and not low <= found[0] <= found[-1] <= high:
        raise CallError(
            f"{name}: code bytes from {found[0]} to {found[-1]}, expected {low} to {high}; store code + offset"
        )


def require_keys(name: str, keys: Sequence[str], count: int) -> list[bytes]:
    """Return the keys in UTF-8; raises `CallError` unless there are `count` keys that can be encoded."""
    if len(keys) != count:
        raise CallError(f"{name}: {len(keys)} keys for {count} samples; each sample needs one")
    for key in keys:
        if any("\ud800" <= character <= "\udfff" for character in key):  # from file names that are not UTF-8
            raise CallError(f"{name}: key {key!r} cannot be written as UTF-8; rename the source sample")
    return [key.encode("utf-8") for key in keys]


def require_fields(
    name: str,
    layout: SampleLayout,
    codes: np.ndarray | Sequence[np.ndarray],
    labels: np.ndarray | None,
    sizes: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Return the other tensors by name, in the order in which a sample's checksum covers them.

    Raises `CallError` for labels or sizes that do not fit the layout.
    """
    fields = {}
    if layout.ragged:
        axes = len(layout.latent_shape)
        fields["shapes"] = np.array([sample.shape for sample in codes], "<i4").reshape(-1, axes)
        fields["sizes"] = _require_sizes(name, layout, fields["shapes"], sizes)
    elif sizes is not None:
        raise CallError(f"{name}: sizes of signals are for ragged geometry; these samples all have the same size")
    if (packed := _require_labels(name, layout.labels, labels, len(codes))) is not None:
        fields["labels"] = packed
    return fields


def _require_sizes(name: str, layout: SampleLayout, shapes: np.ndarray, sizes: np.ndarray | None) -> np.ndarray:
    wanted = (len(shapes), len(layout.latent_shape) - 1)
    if sizes is None or not np.issubdtype(sizes.dtype, np.integer) or sizes.shape != wanted:
        found = "missing" if sizes is None else f"{sizes.dtype} {list(sizes.shape)}"
        raise CallError(f"{name}: sizes of the signals are {found}, expected int32 {list(wanted)}")
    if (wrong := np.flatnonzero(layout.invalid_sizes(shapes, sizes))).size:
        row = int(wrong[0])
        raise CallError(
            f"{name}: a signal of {sizes[row].tolist()} does not fit its codes of {shapes[row].tolist()} "
            f"at a stride of {layout.spec.stride}"
        )
    return np.ascontiguousarray(sizes, "<i4")


def _require_labels(name: str, spec: LabelSpec, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None and spec.kind == "none":
        return None
    if labels is None or spec.kind == "none":
        found = "without labels" if labels is None else "with labels"
        raise CallError(f"{name}: samples {found}, expected labels of kind {spec.kind}")
    wanted = (count, *spec.sample_shape)
    if labels.dtype != spec.dtype or labels.shape != wanted:
        raise CallError(f"{name}: labels are {labels.dtype} {list(labels.shape)}, expected {spec.dtype} {list(wanted)}")
    if (wrong := spec.invalid(labels)).any():
        value = labels[np.flatnonzero(wrong)[0]].tolist()
        raise CallError(f"{name}: label {value}, expected {spec.valid_values}")
    return np.ascontiguousarray(labels, spec.dtype)
