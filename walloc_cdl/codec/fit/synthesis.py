"""The linear synthesis of a data set: least squares from 5 × 5 latents to blocks of pixels.

For every block size b from 1 to the stride, the pixels are the source resized (antialiased bicubic)
to b pixels for each latent. One linear layer fitted to real samples stands for the codec's linear
decoding followed by that resize: truncated to a neighborhood, it is the one of least squared error.

How large a neighborhood: measured on 64 clothing photos at 256 px with a 12-channel codec fitted to
256 others, PSNR in dB against the resized source, for b = 2 and 4. Whole linear decoder: 37.97 and
33.25. 3 × 3: 33.86 and 31.45; 5 × 5: 37.73 and 33.19; 7 × 7: 37.79 and 33.20. With the edge
repeated instead of periodic latents, 5 × 5 gives 32.42 and 30.20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_unshuffle

from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.codec.families.resize import shrink
from walloc_cdl.codec.fit.circular_correlation import circular_correlation, spectra
from walloc_cdl.errors import JobError
from walloc_cdl.synthesis import NEIGHBORHOOD, LinearSynthesis, SynthesisBank

MAX_BANK_BYTES = 2**26
"""Bytes of the weights of all block sizes, at most. RGB at 16 times takes 0.7 MB; 198 channels with 198 latent channels
take 3.9 MB for a block of one pixel and b² times that for b, so they get blocks up to 3, which is where the grid of
equal stored values and its double lie."""

MAX_UNKNOWNS = 2**13
"""Coefficients of one output; their normal equations take the square of it in doubles, half a gigabyte."""

MAX_PRODUCTS_BYTES = 2**26
"""Bytes of the products for every frequency that are summed up at a time, at most."""

RIDGE = 1e-9
"""Added to the normal equations, relative to their mean diagonal: channels that never vary stay solvable."""


def num_synthesis_samples(codec: Codec, latent_shape: tuple[int, int, int]) -> int:
    """How many images `fit_synthesis` wants: 50 positions for each unknown, within 64 to 256 images."""
    unknowns = codec.latent_channels * NEIGHBORHOOD**2 + 1
    return min(max(-(-50 * unknowns // (latent_shape[1] * latent_shape[2])), 64), 256)


@torch.no_grad()
def fit_synthesis(codec: Codec, batches: Sequence[Tensor]) -> SynthesisBank:
    """Fit the layers for b = 1 … stride to batches of prepared images (B, C, H, W) that `codec` can encode.

    All are of one size. Codecs of many channels get fewer: block sizes from 1 up, as far as the bank keeps within
    `MAX_BANK_BYTES`, and none at all beyond `MAX_UNKNOWNS`. Where the batches have fewer positions than a
    layer has unknowns, the neighborhood is smaller, and the weights around it are zero.

    Of each image its codes are kept meanwhile, in doubles. Raises `JobError` when there is none.
    """
    if not batches:
        raise JobError("no sample to fit the linear synthesis to; the train split is empty")
    blocks = offered_blocks(codec)
    if not blocks:
        return {}
    width = _neighborhood(codec, sum(len(batch) * math.prod(batch.shape[2:]) for batch in batches) // codec.stride**2)
    # The bias is one more latent, which is one everywhere.
    latents = [spectra(pad(codec.values(codec.encode(batch)), (0, 0, 0, 0, 0, 1), value=1)) for batch in batches]
    grid = tuple(side // codec.stride for side in batches[0].shape[2:])
    factor = torch.linalg.cholesky(_gram(latents, grid, width))
    return {block: _fit_block(codec, batches, latents, factor, grid, block, width) for block in blocks}


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


def _gram(latents: Sequence[Tensor], grid: tuple[int, ...], width: int) -> Tensor:
    """The left side of the normal equations, float64 (K width² + 1)², of spectra of K latents and a one.

    The product of two neighbors depends only on how far they are apart.
    """
    channels = latents[0].shape[2] - 1
    by_displacement = circular_correlation(zip(latents, latents, strict=True), grid, width - 1)
    places = torch.arange(width)
    apart = places[:, None] - places + width - 1
    products = by_displacement[apart[:, None, :, None], apart[None, :, None, :]]  # (y, x, y', x', K + 1, K + 1)
    size = (channels + 1) * width**2
    unknowns = channels * width**2 + 1  # a one beside a one is the same
    gram = products.permute(4, 0, 1, 5, 2, 3).reshape(size, size)[:unknowns, :unknowns].clone()
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    return gram


def _fit_block(
    codec: Codec,
    batches: Sequence[Tensor],
    latents: Sequence[Tensor],
    factor: Tensor,
    grid: tuple[int, ...],
    block: int,
    width: int,
) -> LinearSynthesis:
    """The layer to blocks of so many pixels, solved for some of the images' channels at a time."""
    frequencies, _, channels = latents[0].shape
    step = max(1, MAX_PRODUCTS_BYTES // (32 * frequencies * channels * block**2))
    solutions, means, stds = [], [], []
    for first in range(0, codec.source_channels, step):
        moments = _Moments()
        parts = (_pixels_on_grid(codec, batch[:, first : first + step], block) for batch in batches)
        targets = (spectra(pixel_unshuffle(moments.take(pixels), block)) for pixels in parts)
        products = circular_correlation(zip(latents, targets, strict=True), grid, width // 2)  # (y, x, K + 1, J)
        solutions.append(torch.cholesky_solve(products.permute(2, 0, 1, 3).flatten(0, 2)[: len(factor)], factor))
        means.append(moments.mean())
        stds.append(moments.std())
    solution = torch.cat(solutions, 1)
    weight = solution[:-1].T.float().unflatten(1, (codec.latent_channels, width, width))
    weight = pad(weight, ((NEIGHBORHOOD - width) // 2,) * 4)
    statistics = (torch.cat(each).float().numpy() for each in (means, stds))
    return LinearSynthesis(weight.contiguous().numpy(), solution[-1].float().numpy(), *statistics)


class _Moments:
    """Running mean and standard deviation of each channel of images (B, C, H, W), float64 (C,)."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def take(self, pixels: Tensor) -> Tensor:
        """The pixels, counted."""
        self._count += pixels[:, 0].numel()
        self._first = self._first + pixels.sum((0, 2, 3), dtype=torch.float64)
        self._second = self._second + pixels.square().sum((0, 2, 3), dtype=torch.float64)
        return pixels

    def mean(self) -> Tensor:
        return torch.as_tensor(self._first) / self._count

    def std(self) -> Tensor:
        variance = torch.as_tensor(self._second) / self._count - self.mean() ** 2
        return variance.clamp_min(1e-8).sqrt()


def _pixels_on_grid(codec: Codec, batch: Tensor, block: int) -> Tensor:
    """The batch in [-0.5, 0.5] resized to `block` pixels for each latent."""
    size = [side // codec.stride * block for side in batch.shape[2:]]
    if list(batch.shape[2:]) == size:
        return to_unit_range(batch)
    if batch.dtype == torch.uint8:  # scaled when there are fewer of them
        return shrink(batch.float(), size).div_(255).sub_(0.5)
    return shrink(to_unit_range(batch), size)
