"""The operators of a data set: least squares from mirrored latents to the latents of flipped images.

Mirroring the array of latents is wrong, since odd bands change sign and bands shift against each other. After the
inverse companding, the latents of a flipped image are nearly a linear function of the mirrored latents and their two
neighbors along the flipped axis. `docs/transforms.md` has the error of each codec. Five latents in place of three gain
0.2 to 1 dB, at 3 bits a pixel and more 1 to 8; neighbors across the axis gain nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.errors import JobError
from walloc_cdl.linear.operators import MAX_OPERATORS_BYTES, REACH, LatentOperators
from walloc_cdl.spec import PROBABILITY_FLOOR, companded_limit, companding_scale

POSITIONS_PER_UNKNOWN = 100
"""Positions of the latent grid that are fitted to, for each coefficient of one output."""

MIN_IMAGES = 32
"""Images that are fitted to in any case, if there are as many: positions of one image resemble each other."""

RIDGE = 1e-9
"""Regularization relative to the mean diagonal of the normal equations, which channels that never vary require."""

CONSTANT = 0.25
"""Pixel value, in [-0.5, 0.5], of the constant images whose latents are measured: far from where companding clips."""


@torch.no_grad()
def fit_operators(codec: Codec, batches: Sequence[Tensor]) -> LatentOperators | None:
    """Fit the operators to batches of prepared images (B, C, H, W), all of one size, that `codec` can encode.

    The first images are used, as many as `num_operator_images` returns. If these have fewer positions than unknowns,
    latents are mirrored without their neighbors. Returns None for codecs whose operators would exceed
    `MAX_OPERATORS_BYTES`. Latents that are pixels are mirrored as they are. Raises `JobError` if there are no batches.
    """
    if not batches:
        raise JobError("no sample to fit the operators of flips to; the train split is empty")
    if codec.companding == "none":
        return _of_pixels(codec.source_channels)
    channels = codec.latent_channels
    if 2 * 4 * REACH * channels**2 > MAX_OPERATORS_BYTES:
        return None
    grid = codec.latent_shape(tuple(batches[0].shape[1:]))[1:]
    images = _first(batches, num_operator_images(codec, grid))
    width = REACH if REACH * channels + 1 < sum(len(batch) for batch in images) * math.prod(grid) else 1
    latents = [_values(codec, batch) for batch in images]
    hflip, hflip_bias, mean, mean_bias = _fit_flip(codec, images, latents, width, axis=-1)
    vflip, vflip_bias, _, _ = _fit_flip(codec, images, latents, width, axis=-2)
    low, high = (_constant_latent(codec, batches[0], value) for value in (-CONSTANT, CONSTANT))
    middle, step = (low + high) / 2, (high - low) / (2 * CONSTANT)
    fitted = (hflip, hflip_bias, vflip, vflip_bias, middle - step / 2, middle + step / 2, mean, mean_bias)
    return LatentOperators(*(np.ascontiguousarray(part.float().numpy()) for part in fitted))


def _of_pixels(channels: int) -> LatentOperators:
    """Return the operators of latents that are pixels, in [-0.5, 0.5]; they are exact."""
    one, zeros = np.eye(channels, dtype=np.float32), np.zeros(channels, np.float32)
    flip = np.pad(one[:, :, None], ((0, 0), (0, 0), (REACH // 2,) * 2))
    half = np.full(channels, 0.5, np.float32)
    return LatentOperators(flip, zeros, flip, zeros, -half, half, one, half)


def num_operator_images(codec: Codec, grid: tuple[int, ...]) -> int:
    """Return how many images on a latent grid (h, w) the operators are fitted to."""
    positions = POSITIONS_PER_UNKNOWN * (REACH * codec.latent_channels + 1)
    return max(MIN_IMAGES, -(-positions // math.prod(grid)))


def _first(batches: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return the first images of the batches, as batches."""
    chosen = []
    for batch in batches:
        if count <= 0:
            break
        chosen.append(batch[:count])
        count -= len(batch)
    return chosen


def _values(codec: Codec, images: Tensor) -> Tensor:
    """Return the values of the codes of images, (B, K, h, w), of the channels that are stored."""
    return codec.values(codec.encode(images))[:, : codec.latent_channels]


def _fit_flip(
    codec: Codec, images: Sequence[Tensor], latents: Sequence[Tensor], width: int, *, axis: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weight (K, K, 3) and bias (K,) of a flip, weight (C, K) and bias (C,) of the mean of pixels; float64."""
    channels, sources = codec.latent_channels, codec.source_channels
    unknowns, outputs = channels * width + 1, channels + sources
    gram, moments = (torch.zeros(unknowns, size, dtype=torch.float64) for size in (unknowns, outputs))
    for batch, values in zip(images, latents, strict=True):
        flipped = batch.flip(axis)
        pixels = avg_pool2d(to_unit_range(flipped), codec.stride) + 0.5
        inputs = _neighborhoods(values.flip(axis), width, axis)
        targets = torch.cat([_values(codec, flipped), pixels], 1)
        rows = inputs.movedim(1, -1).flatten(0, 2).double()
        gram += rows.T @ rows
        moments += rows.T @ targets.movedim(1, -1).flatten(0, 2).double()
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    solution = torch.cholesky_solve(moments, torch.linalg.cholesky(gram)).T
    weight = solution[:, :-1].unflatten(1, (width, channels)).transpose(1, 2)
    weight = pad(weight, ((REACH - width) // 2,) * 2)
    bias = solution[:, -1]
    return weight[:channels], bias[:channels], weight[channels:].sum(2), bias[channels:]


def _neighborhoods(values: Tensor, width: int, axis: int) -> Tensor:
    """Return each latent's neighbors along an axis, and a one, (B, width · K + 1, h, w)."""
    shifts = range(width // 2, -(width // 2) - 1, -1)
    return torch.cat([*(values.roll(shift, axis) for shift in shifts), torch.ones_like(values[:, :1])], 1)


def _constant_latent(codec: Codec, like: Tensor, value: float) -> Tensor:
    """Return the latent, float64 (K,), of an image of one value in [-0.5, 0.5], of the size of those of a batch."""
    return unrounded_values(codec, torch.full((1, *like.shape[1:]), value)).mean((0, 2, 3))


def unrounded_values(codec: Codec, images: Tensor) -> Tensor:
    """Return the values, float64 (B, K, h, w), that codes of images would have without rounding."""
    latents = codec.latents(images).double()[:, : codec.latent_channels]
    if codec.companding == "normal":
        probability = latents / (2 * companded_limit(codec.bits)) + 0.5
        return companding_scale(codec.bits) * torch.special.ndtri(
            probability.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        )
    return latents if codec.companding == "levels" else latents / 255 - 0.5
