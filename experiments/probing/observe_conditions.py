"""The pass over the images: what each condition shows is computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources import Source
from experiments.fidelity.observe import psnr_of_each
from experiments.fidelity.samples import BATCH_SIZE, PreparedImages
from experiments.probing.cache import Block, FeatureCache
from experiments.probing.features import ImageFeatures
from experiments.probing.forms import ConditionForm

BLOCK_SAMPLES = 256
OnImage = Callable[[int, int], object]


@dataclass(eq=False)
class Observed:
    """All usable images in one condition."""

    features: np.ndarray
    """float32 (N, F)."""
    psnr_db: np.ndarray
    num_bytes: np.ndarray


@dataclass
class _Parts:
    """The batches of one block in one condition."""

    features: list[np.ndarray] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)
    num_bytes: list[int] = field(default_factory=list)


def observe_conditions(
    source: Source,
    preparation: Preparation,
    samples: Sequence[tuple[str, int]],
    forms: Sequence[ConditionForm],
    features: ImageFeatures,
    folder: Path,
    *,
    on_image: OnImage = lambda done, total: None,
) -> tuple[list[int], dict[str, Observed]]:
    """Compute the features of all samples, (split, index) each, in all conditions, or read those that are known.

    Returns the positions of the usable samples, and what was observed of them by the name of the condition. Images are
    decoded once for all conditions of a block of 256; blocks are kept in `folder`. Raises `JobError` if no sample can
    be used.
    """
    cache = FeatureCache(folder)
    used: list[int] = []
    found: dict[str, list[Block]] = {form.condition.name: [] for form in forms}
    for number, start in enumerate(range(0, len(samples), BLOCK_SAMPLES)):
        chosen = samples[start : start + BLOCK_SAMPLES]
        identities = {form.condition.name: _identity(source, preparation, chosen, form, features) for form in forms}
        blocks = {name: cache.load(identity, number) for name, identity in identities.items()}
        missing = [form for form in forms if blocks[form.condition.name] is None]
        if missing:
            computed = _compute(
                PreparedImages(source, preparation, chosen),
                missing,
                features,
                lambda n, s=start: on_image(s + n, len(samples)),
            )
            for name, block in computed.items():
                cache.save(identities[name], number, block)
            blocks |= computed
        present = [block for block in blocks.values() if block is not None]
        used += [start + int(place) for place in present[0].used]
        for name, block in blocks.items():
            if block is not None:
                found[name].append(block)
        on_image(min(start + BLOCK_SAMPLES, len(samples)), len(samples))
    return used, {name: _join(parts) for name, parts in found.items()}


def _compute(
    images: PreparedImages, forms: Sequence[ConditionForm], features: ImageFeatures, on_image: Callable[[int], object]
) -> dict[str, Block]:
    parts = {form.condition.name: _Parts() for form in forms}
    places = {sample: place for place, sample in enumerate(images.samples)}
    used: list[int] = []
    with torch.inference_mode():
        for chosen, pixels in images:
            used += [places[sample] for sample in chosen]
            for form in forms:
                restored, sizes = form.restore(pixels)
                part = parts[form.condition.name]
                part.features.append(features.compute(restored).numpy().astype(np.float32))
                part.psnr_db += psnr_of_each(pixels, restored)
                part.num_bytes += sizes
            on_image(min(len(used) + images.num_skipped + BATCH_SIZE, len(images)))
    return {
        name: Block(
            np.concatenate(part.features),
            np.array(part.psnr_db),
            np.array(part.num_bytes, np.int64),
            np.array(used, np.int64),
        )
        for name, part in parts.items()
    }


def _identity(
    source: Source,
    preparation: Preparation,
    samples: Sequence[tuple[str, int]],
    form: ConditionForm,
    features: ImageFeatures,
) -> dict[str, Any]:
    """Return all that the features of some samples depend on but the contents of their files."""
    keys = hashlib.sha256("\n".join(f"{split} {source.key(split, index)}" for split, index in samples).encode())
    return {
        "condition": form.condition.name,
        "codec": None if form.codec is None else form.codec.spec.codec_id,
        "bytes": form.num_bytes,
        "source": source.name,
        "keys": keys.hexdigest(),
        "preparation": preparation.to_json(),
        "features": features.identity(),
    }


def _join(blocks: Sequence[Block]) -> Observed:
    return Observed(
        *(np.concatenate([getattr(block, name) for block in blocks]) for name in ("features", "psnr_db", "num_bytes"))
    )
