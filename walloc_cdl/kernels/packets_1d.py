"""Wavelet packets of sequences by blocked matrix products: the fast path in plain torch.

As in `walloc_cdl.kernels.packets`, a block of 64 coefficients is one small dense product with 64 + 2 · reach samples.

Why at most three levels at a time (`STAGE_LEVELS`): the reach grows with 2^levels, and published audio codecs have
eight levels. Since every level splits all bands, J levels are a few levels of the sequence, followed by the remaining
levels on each of its bands. Eight levels cost 430 multiply-adds per sample in stages, and 3,300 with one matrix.

Reference: pytorch-wavelets level by level, in tests/support/packet_reference.py.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from walloc_cdl.kernels.blocks import CHUNK_VALUES, extend_periodically, tile_operator

STAGE_LEVELS = 3
"""Maximum number of levels in one matrix."""


def packet_analysis_1d(x: Tensor, levels: int) -> Tensor:
    """Return the wavelet packet coefficients (B, C · 2^levels, T / 2^levels) of sequences (B, C, T).

    Channels are in the published order of WaLLoC, (c f1 f2 …) with f = low, high at each level. T must be a multiple of
    2^levels. The transform is periodic at every T and differentiable.
    """
    batch, channels, length = x.shape
    rows = x.reshape(batch * channels, length)
    for stage in _stages(levels):
        rows = rearrange(_transform(rows, stage, inverse=False), "n (t f) -> (n f) t", f=2**stage)
    return rows.reshape(batch, channels * 2**levels, length // 2**levels)


def packet_synthesis_1d(coefficients: Tensor, levels: int) -> Tensor:
    """Return the sequences (B, C, t · 2^levels) of coefficients (B, C · 2^levels, t): the inverse transform."""
    batch, bands, length = coefficients.shape
    rows = coefficients.reshape(batch * bands, length)
    for stage in reversed(_stages(levels)):
        rows = _transform(rearrange(rows, "(n f) t -> n (t f)", f=2**stage), stage, inverse=True)
    return rows.reshape(batch, bands // 2**levels, length * 2**levels)


def _stages(levels: int) -> list[int]:
    """Return the number of levels of each matrix: [3, 3, 2] for eight."""
    num_full, remainder = divmod(levels, STAGE_LEVELS)
    return [STAGE_LEVELS] * num_full + [remainder] * (remainder > 0)


def _transform(rows: Tensor, levels: int, *, inverse: bool) -> Tensor:
    """Apply the circular block operator along rows (n, T); coefficients are interleaved as (t f)."""
    matrix, reach = tile_operator(levels, inverse, rows.dtype, rows.device)
    tile, inputs = matrix.shape
    length = rows.shape[1]
    parts = []
    for chunk in _row_chunks(rows):
        windows = extend_periodically(chunk, 1, tile, reach).unfold(1, inputs, tile)
        # Copied in parts that fit the cache: a product with the overlapping view would copy all of it at once.
        windows_per_part = (
            max(1, CHUNK_VALUES // (inputs * len(chunk))) if rows.device.type == "cpu" else windows.shape[1]
        )
        products = [part.reshape(-1, inputs) @ matrix.T for part in windows.split(windows_per_part, dim=1)]
        joined = torch.cat([product.unflatten(0, (len(chunk), -1)) for product in products], dim=1)
        parts.append(joined.flatten(1)[:, :length])
    return torch.cat(parts)


def _row_chunks(rows: Tensor) -> tuple[Tensor, ...]:
    per_chunk = max(1, CHUNK_VALUES // (4 * rows.shape[1])) if rows.device.type == "cpu" else len(rows)
    return rows.split(per_chunk)
