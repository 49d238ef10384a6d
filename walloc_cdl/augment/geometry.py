"""Crops, flips, rotations, shears and shifts: one affine map a sample, and one interpolation for all of them.

A map is a matrix (B, 2, 3) from output to input positions, both from -1 to 1 across the image as
`torch.nn.functional.affine_grid` has them, so that resizing is part of it. Boxes are not rounded to whole pixels.
Crops are read from a grid that is about as fine as the output (`PixelLevels`), so there is hardly any reduction that
would need a low-pass filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from walloc_cdl.augment.draws import Draws

CROP_ATTEMPTS = 10
"""Boxes that are drawn for a sample, of which the first one that fits is taken, as torchvision does."""


def identity(count: int, device: torch.device) -> Tensor:
    """Return the maps that change nothing, (B, 2, 3)."""
    return torch.eye(2, 3, device=device).repeat(count, 1, 1)


def composed(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the maps that apply `outer` to an output position, and then `inner`, both (B, 2, 3)."""
    matrix = inner[:, :, :2] @ outer[:, :, :2]
    shift = inner[:, :, :2] @ outer[:, :, 2:] + inner[:, :, 2:]
    return torch.cat([matrix, shift], dim=2)


def sample(pixels: Tensor, maps: Tensor, size: tuple[int, int], *, mode: str = "bilinear") -> Tensor:
    """Return pixels (B, C, *size) of (B, C, H, W) at mapped positions; beyond the image they are mirrored."""
    grid = affine_grid(maps, [len(pixels), pixels.shape[1], *size], align_corners=False)
    return grid_sample(pixels, grid, mode=mode, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Draws boxes of a random share of the area and a random aspect, as torchvision's transform of this name."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height."""

    def maps(self, draws: Draws, height: int, width: int) -> Tensor:
        """Return the maps, (B, 2, 3), of boxes in an image of this size."""
        area = draws.uniform("area", *self.scale, count=CROP_ATTEMPTS) * (height * width)
        aspect = draws.uniform("aspect", math.log(self.ratio[0]), math.log(self.ratio[1]), count=CROP_ATTEMPTS).exp()
        widths, heights = (area * aspect).sqrt() / width, (area / aspect).sqrt() / height  # as shares of the sides
        fits = (widths <= 1) & (heights <= 1)
        first = fits.int().argmax(1, keepdim=True)
        whole = min(max(width / height, self.ratio[0]), self.ratio[1]) * height / width
        fallback = (min(whole, 1.0), min(1 / whole, 1.0))
        any_fits = fits.any(1)
        across = torch.where(any_fits, widths.gather(1, first)[:, 0], fallback[0])
        down = torch.where(any_fits, heights.gather(1, first)[:, 0], fallback[1])
        middle = torch.full_like(across, 0.5)
        left = torch.where(any_fits, draws.uniform("left"), middle) * (1 - across)
        top = torch.where(any_fits, draws.uniform("top"), middle) * (1 - down)
        return boxes(left, top, across, down)


def boxes(left: Tensor, top: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """Return the maps of boxes, each (B,) as a share of the image's side."""
    maps = torch.zeros(len(left), 2, 3, device=left.device)
    maps[:, 0, 0], maps[:, 1, 1] = width, height
    maps[:, 0, 2], maps[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1
    return maps


def flips(mirrored: Tensor, *, axis: int) -> Tensor:
    """Return maps that mirror the samples of `mirrored`, bool (B,): columns with axis 0, rows with axis 1."""
    maps = identity(len(mirrored), mirrored.device)
    maps[:, axis, axis] = torch.where(mirrored, -1.0, 1.0)
    return maps


def rotations(degrees: Tensor, aspect: float) -> Tensor:
    """Return maps that turn images counterclockwise about their center; `aspect` is width / height."""
    maps = torch.zeros(len(degrees), 2, 3, device=degrees.device)
    cosine, sine = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    maps[:, 0, 0], maps[:, 0, 1] = cosine, -sine / aspect
    maps[:, 1, 0], maps[:, 1, 1] = sine * aspect, cosine
    return maps


def shears(amount: Tensor, aspect: float, *, axis: int) -> Tensor:
    """Return maps that shift rows (axis 0) or columns (axis 1) by `amount` times their distance from the center."""
    maps = identity(len(amount), amount.device)
    maps[:, axis, 1 - axis] = amount / aspect if axis == 0 else amount * aspect
    return maps


def shifts(share: Tensor, *, axis: int) -> Tensor:
    """Return maps that shift the content by a share of its width (axis 0) or height (axis 1)."""
    maps = identity(len(share), share.device)
    maps[:, axis, 2] = -2 * share
    return maps
