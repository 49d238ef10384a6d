"""The layout of a job's stored samples, and their labels in the form that shards store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.latents import LabelSpec, SampleLayout


def label_spec(source: Source) -> LabelSpec:
    """Return the kind and the number of classes of the source's labels."""
    return LabelSpec(source.listing.label_kind or "none", len(source.class_names or []))


def sample_layout(source: Source, codec: Codec, preparation: Preparation) -> SampleLayout:
    """Return the layout of the samples that this preparation and codec make from the source."""
    shape: tuple[int | None, ...] = codec.latent_shape(preparation.shape)
    if preparation.ragged:
        shape = (shape[0], *[None] * (len(shape) - 1))
    return SampleLayout(codec.spec, shape, label_spec(source), max(1, len(preparation.view_names)))


def stored_labels(source: Source, split: str, indices: Sequence[int]) -> np.ndarray | None:
    """Return the labels of these samples, with the type and shape of `LabelSpec`; None if there are no labels."""
    labels = label_spec(source)
    if labels.tensor_name is None:
        return None
    rows = np.asarray(source.listing.splits[split].labels)[np.asarray(indices, np.int64)]
    return rows.astype(labels.dtype, copy=False).reshape(len(rows), *labels.sample_shape)


def label_names(source: Source) -> dict[str, list[str] | None]:
    """Return `class_names` and `target_names` of the manifest, at least one of which is None."""
    is_regression = source.listing.label_kind == "regression"
    names = source.class_names
    return {"class_names": None if is_regression else names, "target_names": names if is_regression else None}
