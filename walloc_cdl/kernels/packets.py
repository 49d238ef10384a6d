"""Wavelet packets of images by blocked matrix products: the fast path in plain torch.

The transform of one axis is a banded matrix that repeats for every block of pixels, so a block of 64 coefficients is
one small dense product with 64 + 2 · reach pixels. Both axes together are tile = M · patch · Mᵀ. The input is
processed in chunks that stay in the cache: on two cores this is about five times as fast as the level-by-level
convolutions of pytorch-wavelets, to which it is equal.

Reference: pytorch-wavelets level by level, in tests/support/packet_reference.py.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from walloc_cdl.kernels.blocks import CHUNK_VALUES, extend_periodically, tile_operator
from walloc_cdl.kernels.filters import band_order


def _tiles(x: Tensor, levels: int, *, inverse: bool) -> Tensor:
    """Transform both axes of planes (n, H, W) to tiles (rows of tiles, columns of tiles, n, tile, tile)."""
    matrix, reach = tile_operator(levels, inverse, x.dtype, x.device)
    tile, inputs = matrix.shape
    wide = extend_periodically(x, 2, tile, reach)
    columns = range(0, wide.shape[2] - inputs + 1, tile)
    across = torch.stack([wide[:, :, start : start + inputs] @ matrix.T for start in columns])
    tall = extend_periodically(across, 2, tile, reach)
    rows = range(0, tall.shape[2] - inputs + 1, tile)
    return torch.stack([torch.matmul(matrix, tall[:, :, start : start + inputs]) for start in rows])


def _coefficients(x: Tensor, levels: int) -> Tensor:
    """Return the coefficients (B, C · 4^levels, h · w) of images (B, C, H, W), ordered (c, row band, column band)."""
    batch, channels, height, width = x.shape
    bands = 2**levels
    tiles = _tiles(x.reshape(batch * channels, height, width), levels, inverse=False)
    grid = rearrange(tiles, "r s (b c) (i f) (j g) -> b (c f g) (r i) (s j)", b=batch, c=channels, f=bands, g=bands)
    return grid[:, :, : height // bands, : width // bands].flatten(2)


def _chunks(x: Tensor) -> list[Tensor]:
    per_chunk = max(1, CHUNK_VALUES // x[0].numel()) if x.device.type == "cpu" else len(x)
    return list(x.split(per_chunk))


def packet_analysis(x: Tensor, levels: int) -> Tensor:
    """Return the wavelet packet coefficients (B, C · 4^levels, H / 2^levels, W / 2^levels) of images (B, C, H, W).

    Channels are in the published order of WaLLoC, (c f1 f2 …) with f = LL, LH, HL, HH at each level. H and W must be
    multiples of 2^levels. Differentiable.
    """
    order = torch.as_tensor(band_order(levels), device=x.device)
    batch, channels, height, width = x.shape
    parts = []
    for chunk in _chunks(x):
        natural = _coefficients(chunk, levels).unflatten(1, (channels, 4**levels))
        parts.append(natural.index_select(2, order))
    return torch.cat(parts).reshape(batch, -1, height // 2**levels, width // 2**levels)


def packet_synthesis(coefficients: Tensor, levels: int) -> Tensor:
    """Return the images (B, C, h · 2^levels, w · 2^levels) of coefficients (B, C · 4^levels, h, w).

    This is the inverse of `packet_analysis`.
    """
    bands = 2**levels
    inverse_order = torch.as_tensor(band_order(levels), device=coefficients.device).argsort()
    height, width = (bands * side for side in coefficients.shape[2:])
    parts = []
    for chunk in _chunks(coefficients):
        natural = chunk.unflatten(1, (-1, 4**levels)).index_select(2, inverse_order)
        batch, channels = natural.shape[:2]
        plane = rearrange(natural, "b c (f g) i j -> (b c) (i f) (j g)", f=bands)
        tiles = _tiles(plane, levels, inverse=True)
        image = rearrange(tiles, "r s (b c) y x -> b c (r y) (s x)", b=batch, c=channels)
        parts.append(image[:, :, :height, :width])
    return torch.cat(parts)


def packet_encode(pixels: Tensor, weight: Tensor, bias: Tensor, levels: int) -> Tensor:
    """Return the latents (B, K, h, w), before the companding, of pixels (B, C, H, W): analysis and channel mix.

    `pixels` are float in [-0.5, 0.5], or uint8. `weight` is (K, C · 4^levels) over bands in the published order, and
    `bias` is (K,). The result equals a 1 × 1 convolution over `packet_analysis`.
    """
    inverse_order = torch.as_tensor(band_order(levels), device=weight.device).argsort()
    channels, (height, width) = pixels.shape[1], pixels.shape[2:]
    mix = weight.unflatten(1, (channels, 4**levels)).index_select(2, inverse_order).flatten(1)
    parts = []
    for chunk in _chunks(pixels):
        x = chunk.to(weight.dtype) / 255 - 0.5 if chunk.dtype == torch.uint8 else chunk
        parts.append(torch.matmul(mix, _coefficients(x, levels)) + bias[:, None])
    return torch.cat(parts).unflatten(2, (height // 2**levels, width // 2**levels))
