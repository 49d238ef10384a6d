"""Pictures of stored samples by the data set's linear synthesis, which needs no codec."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch

from classifiers.models.stems import SynthesisStem
from walloc_cdl.data import LatentDataset, ModelInput
from walloc_cdl.errors import CallError

MAX_SIDE = 192
"""Pictures get as many pixels for each latent as keep them below this height, if the data set has such a synthesis."""


def sample_pictures(dataset: LatentDataset, rows: Sequence[int]) -> list[str] | None:
    """Return the pictures of samples as addresses for HTML, `data:image/…`.

    Returns None for data without pictures: sound, samples that differ in size, and data without a synthesis.
    """
    if dataset.spec.kind != "image" or dataset.layout.ragged or not len(rows):
        return None
    try:
        bank = dataset.synthesis_bank
    except CallError:
        return None
    grid = dataset.layout.grid
    blocks = sorted(bank)
    layer = bank[max((block for block in blocks if block * grid[0] <= MAX_SIDE), default=blocks[0])]
    model_input = ModelInput(dataset.spec, dataset.statistics, 1.0, levels=dataset.levels, grid=grid)
    channels = dataset.spec.source_channels
    stem = SynthesisStem.fold(layer, model_input, np.full(channels, -0.5), np.ones(channels))
    with torch.inference_mode():
        pixels = stem(model_input(dataset.gather(rows).codes)).clamp(0, 1).numpy()
    return [_address(each) for each in pixels]


def _address(pixels: np.ndarray) -> str:
    """Return the address of a picture (C, H, W) of values from 0 to 1, of which one or three channels are shown."""
    from PIL import Image

    if len(pixels) not in (1, 3):
        pixels = pixels[[0, len(pixels) // 2, len(pixels) - 1]] if len(pixels) > 3 else pixels[:1]
    values = (255 * pixels).round().astype(np.uint8)
    picture = Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
