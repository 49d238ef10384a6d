"""What the stored samples of a job are: the layout of its shards, and labels as shards have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.source import Source
from walloc_cdl.codec import Codec
from walloc_cdl.latents import LabelSpec, SampleLayout


def label_spec(source: Source) -> LabelSpec:
    """The kind of the source's labels, and their classes."""
    return LabelSpec(source.listing.label_kind or "none", len(source.class_names or []))


def sample_layout(source: Source, codec: Codec, preparation: Preparation) -> SampleLayout:
    """The layout of the samples that this preparation and codec make of the source."""
    shape: tuple[int | None, ...] = codec.latent_shape(preparation.shape)
    if preparation.ragged:
        shape = (shape[0], *[None] * (len(shape) - 1))
    return SampleLayout(codec.spec, shape, label_spec(source), max(1, len(preparation.view_names)))


def stored_labels(source: Source, split: str, indices: Sequence[int]) -> np.ndarray | None:
    """The labels of these samples, of the type and shape that `LabelSpec` names; None without labels."""
    labels = label_spec(source)
    if labels.tensor_name is None:
        return None
    rows = np.asarray(source.listing.splits[split].labels)[np.asarray(indices, np.int64)]
    return rows.astype(labels.dtype, copy=False).reshape(len(rows), *labels.sample_shape)


def label_names(source: Source) -> dict[str, list[str] | None]:
    """`class_names` and `target_names` of the manifest, one of which is None at least."""
    is_regression = source.listing.label_kind == "regression"
    names = source.class_names
    return {"class_names": None if is_regression else names, "target_names": names if is_regression else None}
