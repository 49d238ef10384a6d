"""Stores every image in every form and shows what is restored to a network: the pass that all measurements share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from experiments.fidelity.samples import PreparedImages
from experiments.fidelity.stored_forms import StoredForm

Compute = Callable[[Tensor], Tensor]
"""Computes an output for each image: uint8 (N, C, S, S) to (N, …)."""


@dataclass
class Observation:
    """One form at one number of bytes, over all images."""

    stored: str
    budget: int
    """Bytes that each image may take."""
    num_bytes: list[int] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    """What the network computes of the restored images, an array for each batch until all are joined."""

    def joined(self) -> np.ndarray:
        """Returns the outputs of all images, (N, …)."""
        return np.concatenate(self.outputs)


def observe(
    images: PreparedImages,
    forms: Sequence[StoredForm],
    budgets: Sequence[int],
    compute: Compute,
    *,
    on_image: Callable[[int, int], object] | None = None,
) -> tuple[list[tuple[str, int]], np.ndarray, list[Observation]]:
    """Compute the outputs of all images as they are, and stored in each form at each number of bytes.

    Returns the (split, index) of the images, their outputs (N, …), and an observation for each form and budget, those
    of one form together. `on_image` is called with the number of images that are done, and that of all. Raises
    `JobError` if no image can be used, `CallError` for bytes that a form does not have.
    """
    used: list[tuple[str, int]] = []
    outputs: list[np.ndarray] = []
    observations = [Observation(form.name, budget) for form in forms for budget in budgets]
    places = [(form, budget) for form in forms for budget in budgets]
    for samples, pixels in images:
        used += samples
        outputs.append(compute(pixels).numpy())
        for observation, (form, budget) in zip(observations, places, strict=True):
            restored, sizes = form.restore(pixels, budget)
            observation.num_bytes += sizes
            observation.psnr_db += psnr_of_each(pixels, restored)
            observation.outputs.append(compute(restored).numpy())
        if on_image:
            on_image(len(used) + images.num_skipped, len(images))
    return used, np.concatenate(outputs), observations


def psnr_of_each(images: Tensor, restored: Tensor) -> list[float]:
    """Returns the PSNR of each image in dB, for a range of 255; infinite for one that is restored exactly."""
    errors = (images.double() - restored.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / errors)).tolist()
