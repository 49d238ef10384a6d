"""The linear synthesis of a data set: least squares from 5 × 5 latents to blocks of pixels.

For every block size b from 1 to the stride, the pixels are the source resized (antialiased bicubic)
to b pixels for each latent. One linear layer fitted to real samples stands for the codec's linear
decoding followed by that resize: truncated to a neighborhood, it is the one of least squared error.

How large a neighborhood: measured on 64 clothing photos at 256 px with a 12-channel codec fitted to
256 others, PSNR in dB against the resized source, for b = 2 and 4. Whole linear decoder: 37.97 and
33.25. 3 × 3: 33.86 and 31.45; 5 × 5: 37.73 and 33.19; 7 × 7: 37.79 and 33.20. With the edge
repeated instead of the grid closed to a ring, 5 × 5 gives 32.42 and 30.20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_unshuffle, unfold

from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.codec.resize import shrink
from walloc_cdl.errors import JobError
from walloc_cdl.synthesis import NEIGHBORHOOD, LinearSynthesis, SynthesisBank

MAX_BANK_BYTES = 2**26
"""Of the weights of all block sizes. RGB at 16 times takes 0.7 MB; 198 channels with 198 latent channels take
3.9 MB for a block of one pixel and b² times that for b, so they get blocks up to 3, which is where the grid of
equal stored values and its double lie."""

MAX_UNKNOWNS = 2**13
"""Coefficients of one output; their normal equations take the square of it in doubles, half a gigabyte."""

RIDGE = 1e-9
"""Added to the normal equations, relative to their mean diagonal: channels that never vary stay solvable."""


def num_synthesis_samples(codec: Codec, latent_shape: tuple[int, int, int]) -> int:
    """How many images `fit_synthesis` wants: 50 positions for each unknown, within 64 to 256 images."""
    unknowns = codec.latent_channels * NEIGHBORHOOD**2 + 1
    return min(max(-(-50 * unknowns // (latent_shape[1] * latent_shape[2])), 64), 256)


@torch.no_grad()
def fit_synthesis(codec: Codec, batches: Sequence[Tensor]) -> SynthesisBank:
    """Fit the layers for b = 1 … stride to batches of prepared images (B, C, H, W) that `codec` can encode.

    Codecs of many channels get fewer: block sizes from 1 up, as far as the bank keeps within
    `MAX_BANK_BYTES`, and none at all beyond `MAX_UNKNOWNS`. Where the batches have fewer positions than a
    layer has unknowns, the neighborhood is smaller, and the weights around it are zero.

    Memory does not grow with the number of batches. Raises `JobError` when there is none.
    """
    if not batches:
        raise JobError("no sample to fit the linear synthesis to; the train split is empty")
    blocks = offered_blocks(codec)
    if not blocks:
        return {}
    width = _neighborhood(codec, sum(len(batch) * math.prod(batch.shape[2:]) for batch in batches) // codec.stride**2)
    gram: Tensor | float = 0.0
    cross: dict[int, Tensor] = {}
    sums = {block: _Moments() for block in blocks}
    for batch in batches:
        latents = _neighborhoods(codec.values(codec.encode(batch)), width)
        gram = gram + latents @ latents.T
        for block in blocks:
            pixels = _pixels_on_grid(codec, batch, block)
            sums[block].update(pixels)
            target = pixel_unshuffle(pixels, block).transpose(0, 1).flatten(1).double()
            cross[block] = cross.get(block, 0.0) + latents @ target.T
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    factor = torch.linalg.cholesky(gram)
    return {block: _layer(torch.cholesky_solve(cross[block], factor), codec, width, sums[block]) for block in blocks}


def offered_blocks(codec: Codec) -> list[int]:
    """The block sizes of a codec's bank, ascending: all up to the stride unless its channels are many."""
    rows, columns = codec.source_channels, codec.latent_channels * NEIGHBORHOOD**2
    if columns + 1 > MAX_UNKNOWNS:
        return []
    sizes = np.cumsum([4 * rows * block**2 * columns for block in range(1, codec.stride + 1)])
    return list(range(1, int((sizes <= MAX_BANK_BYTES).sum()) + 1))


def _neighborhood(codec: Codec, num_positions: int) -> int:
    """Latents a side that a layer is fitted to: as many as `NEIGHBORHOOD` if the positions determine it."""
    widths = range(NEIGHBORHOOD, 1, -2)
    return next((width for width in widths if codec.latent_channels * width**2 < num_positions), 1)


class _Moments:
    """Running mean and standard deviation of each channel of images (B, C, H, W)."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def update(self, pixels: Tensor) -> None:
        values = pixels.transpose(0, 1).flatten(1).double()
        self.count += values.shape[1]
        self.first = self.first + values.sum(1)
        self.second = self.second + values.square().sum(1)

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        mean = torch.as_tensor(self.first) / self.count
        variance = torch.as_tensor(self.second) / self.count - mean**2
        return mean, variance.clamp_min(1e-8).sqrt()


def _neighborhoods(values: Tensor, width: int) -> Tensor:
    """(B, K, h, w) to float64 (K width² + 1, B h w): each position's neighbors around the ring, and a one."""
    padded = pad(values, (width // 2,) * 4, mode="circular")
    rows = unfold(padded, width).transpose(0, 1).flatten(1).double()
    return torch.cat([rows, torch.ones_like(rows[:1])])


def _pixels_on_grid(codec: Codec, batch: Tensor, block: int) -> Tensor:
    """The batch in [-0.5, 0.5] resized to `block` pixels for each latent."""
    pixels = to_unit_range(batch)
    size = [side // codec.stride * block for side in batch.shape[2:]]
    if list(batch.shape[2:]) == size:
        return pixels
    return shrink(pixels, size)


def _layer(solution: Tensor, codec: Codec, width: int, moments: _Moments) -> LinearSynthesis:
    mean, std = (statistic.float().numpy() for statistic in moments.mean_and_std())
    weight = solution[:-1].T.float().unflatten(1, (codec.latent_channels, width, width))
    weight = pad(weight, ((NEIGHBORHOOD - width) // 2,) * 4)
    return LinearSynthesis(weight.contiguous().numpy(), solution[-1].float().numpy(), mean, std)
