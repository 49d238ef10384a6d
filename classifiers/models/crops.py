"""Data sets whose samples differ in size, as classifiers take them: in crops of one size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.codec.fit.synthesis import fit_synthesis, num_synthesis_samples
from walloc_cdl.data import LatentBatch, LatentDataset
from walloc_cdl.data.crops import covered_shapes
from walloc_cdl.errors import CallError
from walloc_cdl.linear.synthesis import SynthesisBank

FITTED_AT_ONCE = 16


class CroppedDataset(LatentDataset):
    """The samples of a data set of ragged geometry, each cropped to its center.

    It has what a classifier is built from, which a ragged data set lacks: one latent shape, batches, and of images a
    linear synthesis. That one is fitted to what the set's codec decodes of the crops.
    """

    def __init__(self, dataset: LatentDataset, crop: tuple[int, ...]) -> None:
        """Raises `CallError` for crops that are larger than a sample."""
        super().__init__(dataset.stored, dataset.view, dataset.rows)
        covered_shapes(dataset, crop)
        self._crop = crop

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(K, h, w) of the crops, or (K, t)."""
        return self.spec.latent_channels, *self._crop

    def gather(self, indices: Sequence[int] | np.ndarray | Tensor) -> LatentBatch:
        """Returns the center crops of samples."""
        rows = [int(index) for index in indices]
        codes = torch.stack([_centered(self[row].codes, self._crop) for row in rows])
        return LatentBatch(codes, torch.from_numpy(self.labels[rows]))

    @cached_property
    def synthesis_bank(self) -> SynthesisBank:
        """The linear syntheses of the crops by block size; raises `CallError` for a data set without a codec."""
        codec, count = self.codec, num_synthesis_samples(self.codec, self.latent_shape)
        rows = np.linspace(0, len(self) - 1, min(len(self), count)).astype(int)
        parts = np.split(rows, range(FITTED_AT_ONCE, len(rows), FITTED_AT_ONCE))
        with torch.inference_mode():
            return fit_synthesis(codec, [codec.decode(self.gather(part).codes) for part in parts])


def in_one_size(dataset: LatentDataset, crop: tuple[int, ...] | None) -> LatentDataset:
    """Return the data set as a classifier is built for it: with crops, if its samples differ in size.

    Raises `CallError` for a crop of samples of one size, for none of samples that differ, with the largest possible
    one, and for one of other sides.
    """
    if not dataset.layout.ragged:
        if crop is not None:
            raise CallError(
                f"crop {_text(crop)}, but all samples of {dataset.folder} have the same size; omit the crop"
            )
        return dataset
    num_sides = len(dataset.latent_shape) - 1
    if crop is None:
        smallest = covered_shapes(dataset, (1,) * num_sides)[:, 1:].min(0)
        raise CallError(
            f"samples of {dataset.folder} differ in size; give the crop in latents that a classifier takes, at most "
            f"{_text(smallest.tolist())} (--crop, or crop=)"
        )
    if len(crop) != num_sides or min(crop) < 1:
        sides = "height and width" if num_sides == 2 else "a length"
        raise CallError(f"crop {_text(crop)}; expected {sides} in latents, such as {'x'.join(['16'] * num_sides)}")
    return CroppedDataset(dataset, tuple(crop))


def _centered(codes: Tensor, sides: tuple[int, ...]) -> Tensor:
    starts = [(length - side) // 2 for length, side in zip(codes.shape[1:], sides, strict=True)]
    return codes[(slice(None), *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))]


def _text(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
