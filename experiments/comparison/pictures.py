"""Test samples as a model sees them in each condition, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.comparison.results import ConditionResult, SeenSample

NUM_RANDOM, NUM_DISPUTED = 3, 5
QUALITY = 82
"""Of WebP: differences to the original stay below those that the conditions make."""
AT_RANDOM, DISPUTED = "chosen at random", "conditions disagree"

Restore = Callable[[Tensor], Tensor]
"""Returns images uint8 (N, C, S, S) as a model sees them, enlarged to their own size."""


def choose_samples(conditions: Sequence[ConditionResult], labels: Sequence[int]) -> dict[int, str]:
    """Returns places among the tested samples, each with the reason why it is shown; the same for the same results.

    Samples are disputed if some conditions are right and others are wrong; those nearest to one half come first.
    """
    truth = np.asarray(labels)
    right = np.stack([(np.stack([run.predicted for run in each.runs]) == truth).any(0) for each in conditions])
    generator = np.random.default_rng(0)
    order = generator.permutation(len(truth))
    shown = {int(place): AT_RANDOM for place in order[:NUM_RANDOM]}
    share = right.mean(0)
    rest = [place for place in order[NUM_RANDOM:] if 0 < share[place] < 1]
    for place in sorted(rest, key=lambda place: abs(share[place] - 0.5))[:NUM_DISPUTED]:
        shown[int(place)] = DISPUTED
    return shown


def seen_samples(
    shown: Mapping[int, str],
    images: Iterable[tuple[Sequence[tuple[str, int]], Tensor]],
    conditions: Mapping[str, Restore],
) -> list[SeenSample]:
    """Returns the chosen samples; `images` yields them in the order of `shown`, in batches uint8 (N, C, S, S)."""
    samples = []
    places = iter(shown.items())
    for _, pixels in images:
        with torch.inference_mode():
            restored = {name: restore(pixels) for name, restore in conditions.items()}
        for row in range(len(pixels)):
            index, reason = next(places)
            seen = {name: data_uri(images[row]) for name, images in restored.items()}
            samples.append(SeenSample(index, reason, data_uri(pixels[row]), seen))
    return samples


def data_uri(image: Tensor) -> str:
    """Returns an image uint8 (C, H, W), C 1 or 3, as a data URI of WebP."""
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
