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

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_unshuffle, unfold

from walloc_cdl.codec.base import Codec, to_unit_range
from walloc_cdl.codec.resize import shrink
from walloc_cdl.errors import JobError
from walloc_cdl.synthesis import NEIGHBORHOOD, LinearSynthesis, SynthesisBank

RIDGE = 1e-9
"""Added to the normal equations, relative to their mean diagonal: channels that never vary stay solvable."""


def num_synthesis_samples(codec: Codec, latent_shape: tuple[int, int, int]) -> int:
    """How many images `fit_synthesis` wants: 50 positions for each unknown, within 64 to 256 images."""
    unknowns = codec.latent_channels * NEIGHBORHOOD**2 + 1
    return min(max(-(-50 * unknowns // (latent_shape[1] * latent_shape[2])), 64), 256)


@torch.no_grad()
def fit_synthesis(codec: Codec, batches: Iterable[Tensor]) -> SynthesisBank:
    """Fit the layers for b = 1 … stride to batches of uint8 pixels (B, C, S, S) that `codec` can encode.

    Memory does not grow with the number of batches. Raises `JobError` when there is none.
    """
    blocks = range(1, codec.stride + 1)
    gram: Tensor | float = 0.0
    cross: dict[int, Tensor] = {}
    sums = {block: _Moments() for block in blocks}
    for batch in batches:
        latents = _neighborhoods(codec.values(codec.encode(batch)))
        gram = gram + latents @ latents.T
        for block in blocks:
            pixels = _pixels_on_grid(codec, batch, block)
            sums[block].update(pixels)
            target = pixel_unshuffle(pixels, block).transpose(0, 1).flatten(1).double()
            cross[block] = cross.get(block, 0.0) + latents @ target.T
    if not isinstance(gram, Tensor):
        raise JobError("no sample to fit the linear synthesis to; the train split is empty")
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    factor = torch.linalg.cholesky(gram)
    return {block: _layer(torch.cholesky_solve(cross[block], factor), codec, sums[block]) for block in blocks}


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


def _neighborhoods(values: Tensor) -> Tensor:
    """(B, K, h, w) to float64 (25 K + 1, B h w): each position's neighbors around the ring, and a one."""
    reach = NEIGHBORHOOD // 2
    padded = pad(values, (reach,) * 4, mode="circular")
    rows = unfold(padded, NEIGHBORHOOD).transpose(0, 1).flatten(1).double()
    return torch.cat([rows, torch.ones_like(rows[:1])])


def _pixels_on_grid(codec: Codec, batch: Tensor, block: int) -> Tensor:
    """The batch in [-0.5, 0.5] resized to `block` pixels for each latent."""
    pixels = to_unit_range(batch)
    size = [side // codec.stride * block for side in batch.shape[2:]]
    if list(batch.shape[2:]) == size:
        return pixels
    return shrink(pixels, size)


def _layer(solution: Tensor, codec: Codec, moments: _Moments) -> LinearSynthesis:
    mean, std = (statistic.float().numpy() for statistic in moments.mean_and_std())
    weight = solution[:-1].T.float().unflatten(1, (codec.latent_channels, NEIGHBORHOOD, NEIGHBORHOOD))
    return LinearSynthesis(weight.contiguous().numpy(), solution[-1].float().numpy(), mean, std)
