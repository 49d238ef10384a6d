"""The linear synthesis of a data set: least squares from 5 × 5 latents to blocks of pixels.

For every block size b from 1 to the stride, the target is the source resized (antialiased bicubic) to b pixels for
each latent. One linear layer fitted to real samples replaces the codec's linear decoder followed by that resize; it is
the layer of least squared error among those that see only a neighborhood.

Why 5 × 5 latents on a periodic grid: the filters of the packet transform have 57 taps, seven latents, and are
periodic, so that latents at one border hold detail of the opposite one. PSNR in dB against the source resized to a
grid of 64 and of 128 pixels, on 64 clothing photos at 256 px with a codec of 12 channels fitted to 256 others: the
whole linear decoder has 37.97 and 33.25; 3 × 3 latents have 33.86 and 31.45; 5 × 5 have 37.73 and 33.19; 7 × 7 have
37.79 and 33.20; 5 × 5 with the border repeated instead of the periodic grid have 32.42 and 30.20. The layer costs 3.7
million multiply-adds at the grid of 64, a fortieth of a ResNet-18.

Latents with bit planes have one synthesis, of the whole stored row, which serves every prefix. One of its own for each
prefix would gain little: PSNR in dB of `rgb` stored at 12,288 bytes, fitted to 128 clothing photos at 256 px and
measured on 64 others on a grid of 64 pixels, is 35.31 at 6,144 bytes against 35.34 for its own, 32.11 against 32.26 at
3,072, and 26.73 against 27.13 at 1,536; on a grid of 128 pixels 31.47 against 31.51, 28.04 against 28.12, and 24.13
against 24.37.

Why codecs of many channels have fewer block sizes: a layer has C b² × K × 25 weights. With 198 channels and 198 latent
channels these take 3.9 MB for b = 1 and 250 MB for b = 8. The bank has block sizes from 1 up within 64 MiB, which
includes the grid of equal stored values and its double; beyond 8,192 unknowns (K above 327) there is no bank, and the
`channels` stem remains. A single hyperspectral cube has fewer positions than 25 K, so its neighborhood shrinks to 3 ×
3 or 1 × 1, and the weights around it are zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_unshuffle

from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.codec.families.resize import shrink
from walloc_cdl.codec.fit.circular_correlation import circular_correlation, cross_spectra, spectra
from walloc_cdl.errors import JobError
from walloc_cdl.linear.synthesis import MAX_BANK_BYTES, NEIGHBORHOOD, LinearSynthesis, SynthesisBank
from walloc_cdl.threads import torch_threads

MAX_UNKNOWNS = 2**13
"""Maximum number of coefficients of one output; their normal equations take half a gigabyte in doubles."""

MAX_PRODUCTS_BYTES = 2**26
"""Maximum size in bytes of the products of all frequencies that are accumulated at a time."""

MAX_PARTS_BYTES = 2**27
"""Maximum size in bytes of the products of all parts that several threads accumulate at a time."""

MAX_FITTING_THREADS = 4
"""Maximum number of parts that are transformed at a time, each of which takes about 100 MB."""

RIDGE = 1e-9
"""Regularization relative to the mean diagonal of the normal equations, which channels that never vary require."""


def num_synthesis_samples(codec: Codec, latent_shape: tuple[int, int, int]) -> int:
    """Return how many images `fit_synthesis` should get: 50 positions for each unknown, within 64 to 256 images."""
    unknowns = codec.latent_channels * NEIGHBORHOOD**2 + 1
    return min(max(-(-50 * unknowns // (latent_shape[1] * latent_shape[2])), 64), 256)


@torch.no_grad()
def fit_synthesis(codec: Codec, batches: Sequence[Tensor]) -> SynthesisBank:
    """Fit the layers for b = 1 … stride to batches of prepared images (B, C, H, W) that `codec` can encode.

    All images have the same size. Codecs of many channels get block sizes from 1 up, as long as the bank stays within
    `MAX_BANK_BYTES`, and no bank beyond `MAX_UNKNOWNS`. If the batches have fewer positions than a layer has unknowns,
    the neighborhood is smaller, and the weights around it are zero.

    The codes of all images are held in memory as doubles. Raises `JobError` if there are no batches.
    """
    if not batches:
        raise JobError("no sample to fit the linear synthesis to; the train split is empty")
    blocks = available_block_sizes(codec)
    if not blocks:
        return {}
    width = _neighborhood(codec, sum(len(batch) * math.prod(batch.shape[2:]) for batch in batches) // codec.stride**2)
    # The bias is the weight of an additional latent, which is 1 everywhere.
    stored = (codec.values(codec.encode(batch))[:, : codec.latent_channels] for batch in batches)
    latents = [spectra(pad(values, (0, 0, 0, 0, 0, 1), value=1)) for values in stored]
    grid = tuple(side // codec.stride for side in batches[0].shape[2:])
    factor = torch.linalg.cholesky(_gram(latents, grid, width))
    frequencies, _, channels = latents[0].shape
    parts = [
        _Part(block, slice(first, first + step), 16 * frequencies * channels * block**2 * step)
        for block in blocks
        for step in [_channels_at_once(codec, frequencies * channels, block)]
        for first in range(0, codec.source_channels, step)
    ]
    fitted: dict[int, list[_Fitted]] = {block: [] for block in blocks}
    for some in _within_memory(parts):
        for part, (products, moments) in zip(some, _correlate(codec, batches, latents, some), strict=True):
            moved = circular_correlation(products, grid, width // 2)  # (y, x, K + 1, J)
            solution = torch.cholesky_solve(moved.permute(2, 0, 1, 3).flatten(0, 2)[: len(factor)], factor)
            fitted[part.block].append(_Fitted(solution, moments.mean(), moments.std()))
    return {block: _layer(codec, fitted[block], width) for block in blocks}


def available_block_sizes(codec: Codec) -> list[int]:
    """Return the block sizes of a codec's bank, ascending: all up to the stride unless it has many channels."""
    rows, columns = codec.source_channels, codec.latent_channels * NEIGHBORHOOD**2
    if columns + 1 > MAX_UNKNOWNS:
        return []
    sizes = np.cumsum([4 * rows * block**2 * columns for block in range(1, codec.stride + 1)])
    return list(range(1, int((sizes <= MAX_BANK_BYTES).sum()) + 1))


def _neighborhood(codec: Codec, num_positions: int) -> int:
    """Return the side of the fitted neighborhood in latents: `NEIGHBORHOOD` if there are enough positions."""
    widths = range(NEIGHBORHOOD, 1, -2)
    return next((width for width in widths if codec.latent_channels * width**2 < num_positions), 1)


def _gram(latents: Sequence[Tensor], grid: tuple[int, ...], width: int) -> Tensor:
    """Return the left side of the normal equations, float64 (K width² + 1)², for spectra of K latents and the constant.

    The product of two neighbors depends only on their displacement.
    """
    channels = latents[0].shape[2] - 1
    by_displacement = circular_correlation(cross_spectra(zip(latents, latents, strict=True)), grid, width - 1)
    positions = torch.arange(width)
    offsets = positions[:, None] - positions + width - 1
    products = by_displacement[offsets[:, None, :, None], offsets[None, :, None, :]]  # (y, x, y', x', K + 1, K + 1)
    size = (channels + 1) * width**2
    unknowns = channels * width**2 + 1  # the constant needs one unknown, since its neighbors equal it
    gram = products.permute(4, 0, 1, 5, 2, 3).reshape(size, size)[:unknowns, :unknowns].clone()
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    return gram


@dataclass(frozen=True)
class _Part:
    """Some channels of the images, and the block size for which a layer is fitted to them."""

    block: int
    channels: slice
    num_bytes: int
    """Size of the products of all frequencies."""


class _Fitted(NamedTuple):
    """The solution (K width² + 1, J) for a part, and mean and standard deviation of its channels."""

    solution: Tensor
    mean: Tensor
    std: Tensor


def _channels_at_once(codec: Codec, num_values: int, block: int) -> int:
    """Return the number of channels whose products with `num_values` values of latents' spectra fit the memory."""
    return min(max(1, MAX_PRODUCTS_BYTES // (32 * num_values * block**2)), codec.source_channels)


def _within_memory(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Yield the parts in groups of at most `MAX_PARTS_BYTES`, or of one part."""
    group: list[_Part] = []
    for part in parts:
        if group and sum(each.num_bytes for each in group) + part.num_bytes > MAX_PARTS_BYTES:
            yield group
            group = []
        group.append(part)
    yield group


def _correlate(
    codec: Codec, batches: Sequence[Tensor], latents: Sequence[Tensor], parts: Sequence[_Part]
) -> list[tuple[Tensor, _Moments]]:
    """Return the cross-spectra of latents and pixels, and the pixels' moments, for each part.

    Threads take one part each, since torch's threads, which share an operation, wait for one another after each of
    many short ones. On two CPUs, beside other programs, that takes 2.5 times the time of this.
    """

    def correlate(part: _Part) -> tuple[Tensor, _Moments]:
        moments = _Moments()
        pixels = (_pixels_on_grid(codec, batch[:, part.channels], part.block) for batch in batches)
        targets = (spectra(pixel_unshuffle(moments.update(each), part.block)) for each in pixels)
        return cross_spectra(zip(latents, targets, strict=True)), moments

    largest_first = sorted(range(len(parts)), key=lambda number: -parts[number].num_bytes)
    with ThreadPoolExecutor(min(torch.get_num_threads(), MAX_FITTING_THREADS)) as threads, torch_threads(1):
        results = list(threads.map(lambda number: correlate(parts[number]), largest_first))
    return [result for _, result in sorted(zip(largest_first, results, strict=True), key=lambda each: each[0])]


def _layer(codec: Codec, parts: Sequence[_Fitted], width: int) -> LinearSynthesis:
    """Return the layer of all parts of a block size."""
    solution = torch.cat([part.solution for part in parts], 1)
    weight = solution[:-1].T.float().unflatten(1, (codec.latent_channels, width, width))
    weight = pad(weight, ((NEIGHBORHOOD - width) // 2,) * 4)
    means, stds = (
        torch.cat(each).float().numpy() for each in ([part.mean for part in parts], [part.std for part in parts])
    )
    return LinearSynthesis(weight.contiguous().numpy(), solution[-1].float().numpy(), means, stds)


class _Moments:
    """Running mean and standard deviation of each channel of images (B, C, H, W), float64 (C,)."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def update(self, pixels: Tensor) -> Tensor:
        """Include the pixels in the moments, and return them."""
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
    """Return the batch in [-0.5, 0.5], resized to `block` pixels for each latent."""
    size = [side // codec.stride * block for side in batch.shape[2:]]
    if list(batch.shape[2:]) == size:
        return to_unit_range(batch)
    if batch.dtype == torch.uint8:  # scaled after resizing, when there are fewer values
        return shrink(batch.float(), size).div_(255).sub_(0.5)
    return shrink(to_unit_range(batch), size)
