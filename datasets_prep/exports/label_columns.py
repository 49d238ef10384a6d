"""Labels of every kind as columns of Arrow tables, for Parquet and HF `datasets`."""

from __future__ import annotations

from typing import Any

import numpy as np

from walloc_cdl.latents import LabelSpec, Manifest


def label_name(spec: LabelSpec) -> str | None:
    """Return the column's name: `target` for regression, otherwise `label`; None without labels."""
    return {"labels": "label", "targets": "target"}.get(spec.tensor_name or "")


def label_type(spec: LabelSpec) -> Any:
    """Return the Arrow type: a number, or a list of numbers for several classes or targets."""
    import pyarrow as pa

    number = pa.from_numpy_dtype(spec.dtype)
    return pa.list_(number) if spec.sample_shape else number


def label_column(labels: np.ndarray, spec: LabelSpec) -> Any:
    """Return the labels, (n,) or (n, columns), as an Arrow array."""
    import pyarrow as pa

    values = pa.array(np.ascontiguousarray(labels).reshape(-1))
    if not spec.sample_shape:
        return values
    width = spec.sample_shape[0]
    return pa.ListArray.from_arrays(pa.array(np.arange(len(labels) + 1, dtype=np.int32) * np.int32(width)), values)


def label_feature(manifest: Manifest) -> dict[str, Any]:
    """Return the column's feature of `datasets` as plain values; single classes have their names."""
    spec = manifest.layout.labels
    if spec.kind == "class" and manifest.class_names is not None:
        return {"names": manifest.class_names, "_type": "ClassLabel"}
    value = {"dtype": {"class": "int64", "multilabel": "uint8"}.get(spec.kind, "float32"), "_type": "Value"}
    return {"feature": value, "length": -1, "_type": "List"} if spec.sample_shape else value
