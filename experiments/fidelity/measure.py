"""`cdl codec eval --classifier`: how often a frozen classifier sees the same in an image that a codec has stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classifiers.models.pixel_classifier import PixelClassifier
from experiments.fidelity.observe import Observation, observe
from experiments.fidelity.outcome import FidelityOutcome, StoredOutcome
from experiments.fidelity.samples import PreparedImages, known_labels
from experiments.fidelity.stored_forms import CodecForm, StoredForm, choose_budgets
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError


def measure_fidelity(
    codec: Codec,
    classifier: PixelClassifier,
    images: PreparedImages,
    *,
    budgets: Sequence[int] | None = None,
    against: Sequence[StoredForm] = (),
    settings: dict[str, Any] | None = None,
    on_image: Callable[[int, int], object] | None = None,
) -> FidelityOutcome:
    """Show a classifier each image as it is, stored by the codec, and in other forms of the same number of bytes.

    `budgets` are bytes of an image, see `choose_budgets`. `settings` are recorded. `on_image` is called with the
    number of images that are done, and that of all. Raises `CallError` for a codec that is not for gray or RGB images,
    and for bytes that it does not have, `JobError` if no image can be used.
    """
    forms, chosen = choose_forms(codec, images, budgets, against)

    def predict(pixels: Tensor) -> Tensor:
        return classifier.logits(pixels).argmax(1)

    used, predictions, observations = observe(images, forms, chosen, predict, on_image=on_image)
    labels = known_labels(images.source, used, classifier.label_names, classifier.label_texts)
    return make_outcome(
        codec.name,
        classifier.name,
        images,
        used,
        labels,
        predictions,
        [(each, each.joined()) for each in observations],
        {"input": list(classifier.input_size), "crop_share": classifier.crop_share, **(settings or {})},
    )


def choose_forms(
    codec: Codec, images: PreparedImages, budgets: Sequence[int] | None, against: Sequence[StoredForm]
) -> tuple[list[StoredForm], list[int]]:
    """Returns the forms, the codec first, and the numbers of bytes; raises `CallError` for a codec that is no match."""
    if codec.spec.kind != "image" or codec.spec.source_channels not in (1, 3):
        raise CallError(
            f"codec {codec.name} is for {codec.spec.kind} of {codec.spec.source_channels} channels; classifiers see "
            "gray and RGB images only"
        )
    if codec.name in [form.name for form in against]:
        raise CallError(
            f"the codec is called {codec.name!r}, as is a form to compare it with; give the codec another name"
        )
    shape = images.preparation.shape
    return [CodecForm(codec), *against], choose_budgets(codec, shape, budgets)


def make_outcome(
    codec: str,
    classifier: str,
    images: PreparedImages,
    used: Sequence[tuple[str, int]],
    labels: np.ndarray,
    predictions: np.ndarray,
    observed: Sequence[tuple[Observation, np.ndarray]],
    settings: dict[str, Any],
) -> FidelityOutcome:
    """Returns the outcome of observations, each with the classes (N,) that are predicted of its restored images."""
    return FidelityOutcome(
        codec=codec,
        classifier=classifier,
        source=images.source.name,
        preparation=images.preparation.to_json(),
        keys=[images.source.key(*sample) for sample in used],
        labels=labels.tolist(),
        predictions=predictions.tolist(),
        outcomes=[
            StoredOutcome(
                each.stored,
                each.budget,
                each.num_bytes,
                [value if math.isfinite(value) else None for value in each.psnr_db],
                predicted.tolist(),
            )
            for each, predicted in observed
        ],
        num_skipped=images.num_skipped,
        settings={**settings, "torch": torch.__version__},
    )
