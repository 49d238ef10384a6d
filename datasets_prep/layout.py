"""What the stored samples of a job are: the layout of its shards."""

from __future__ import annotations

from datasets_prep.signals.base import Preparation
from datasets_prep.sources.base import Source
from datasets_prep.stored_labels import label_spec
from walloc_cdl.codec import Codec
from walloc_cdl.latents import SampleLayout


def sample_layout(source: Source, codec: Codec, preparation: Preparation) -> SampleLayout:
    """Of the samples that this preparation and codec make of the source."""
    shape: tuple[int | None, ...] = codec.latent_shape(preparation.shape)
    if preparation.ragged:
        shape = (shape[0], *[None] * (len(shape) - 1))
    return SampleLayout(codec.spec, shape, label_spec(source), max(1, len(preparation.view_names)))
