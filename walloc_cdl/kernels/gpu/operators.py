"""What the GPU's encoding kernels multiply with: filters and channel mix, as sums of two float16 matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from walloc_cdl.kernels.filters import HIGHPASS, HIGHPASS_START, LOWPASS, LOWPASS_START, band_order, block_operator
from walloc_cdl.spec import companding_scale

TILE_SAMPLES = 64
"""Samples a side of a tile of an image: what one product of the kernel transforms."""

FLOAT_SCALE = 16.0
"""Float signals in ±0.5 are multiplied by this, so that both parts of a sample lie well within float16."""
FLOAT_LIMIT = 512.0
"""Beyond this, 64 times the range that a signal has, scaled samples are cut off: float16 ends at 65,504, and
five levels enlarge by up to 69."""


@dataclass(frozen=True)
class GpuOperators:
    """One codec's encoding side, for all types of signals: NumPy arrays that become tensors on a device."""

    levels: int
    dimensions: int
    bits: int
    latents: int
    """K."""
    matrices: dict[str, np.ndarray]
    """float16: `axis` (2, TILE, window) and `mix` (2, C, bands, pitch) of images, `taps` (2, C, 8 · 2^J, pitch) of
    audio; the first index is 0 for the high parts and 1 for the low ones, the pitch K or a little more."""
    scale: dict[str, np.ndarray]
    """float32 (pitch,), by kind of signal (`bytes`, `int16`, `float`): a latent is erf(scale · sum + shift)."""
    shift: dict[str, np.ndarray]
    """float32 (pitch,), likewise."""


def image_operators(weight: np.ndarray, bias: np.ndarray, *, levels: int, bits: int) -> GpuOperators:
    """The operators of a linear layer on pixels in ±0.5: `weight` (K, C · 4^J), over bands in the published order, and
    `bias` (K,).
    """
    num_bands = 4**levels
    published = weight.astype(np.float64).reshape(len(weight), -1, num_bands)
    natural = np.empty_like(published)
    natural[:, :, band_order(levels)] = published
    mix, exponent = _scaled_rows(natural)
    # A product on the tensor cores has 16 terms at least; the kernel puts zeros between the bands of one level.
    spread = max(1, 16 // num_bands)
    padded = np.zeros((len(weight), mix.shape[1], num_bands * spread))
    padded[:, :, ::spread] = mix
    # A constant signal has no band but the lowest.
    gain = natural[:, :, 0].sum(1) * 2.0**levels
    scale, shift = _companding(bits, exponent, bias, {"bytes": 255.0, "float": FLOAT_SCALE}, {"bytes": gain / 510})
    return GpuOperators(
        levels=levels,
        dimensions=2,
        bits=bits,
        latents=len(weight),
        matrices={"axis": _halves(_axis_matrix(levels)), "mix": _halves(_pitched(padded.transpose(1, 2, 0)))},
        scale=scale,
        shift=shift,
    )


def sequence_operators(weight: np.ndarray, bias: np.ndarray, *, levels: int, bits: int) -> GpuOperators:
    """The operators of a linear layer on samples in ±0.5: `weight` (K, C · 2^J), over bands in the published order, and
    `bias` (K,).
    """
    taps, exponent = _scaled_rows(fold_filters(weight.astype(np.float64).reshape(len(weight), -1, 2**levels)))
    scale, shift = _companding(bits, exponent, bias, {"int16": 65536.0, "float": FLOAT_SCALE}, {})
    return GpuOperators(
        levels=levels,
        dimensions=1,
        bits=bits,
        latents=len(weight),
        matrices={"taps": _halves(_pitched(taps.transpose(1, 2, 0)))},
        scale=scale,
        shift=shift,
    )


def folded_bytes(latents: int, channels: int, levels: int) -> int:
    """Bytes of the `taps` of `sequence_operators`."""
    return 2 * 2 * channels * 8 * 2**levels * pitch(latents)


def fold_filters(weight: np.ndarray) -> np.ndarray:
    """Mix and packet filters in one: (…, 2^J) weights of bands to (…, 8 · 2^J) taps on a sequence's samples.

    The first tap meets the sample 4 · 2^J before the position's own first one. Each level's transpose puts a low
    and a high band together, from the last level to the first.
    """
    levels = weight.shape[-1].bit_length() - 1
    bands, start = weight[..., None], 0
    for _ in range(levels):
        low, high = bands[..., ::2, :], bands[..., 1::2, :]
        length = 2 * (low.shape[-1] - 1)
        first = min(LOWPASS_START, HIGHPASS_START)
        last = max(LOWPASS_START + len(LOWPASS), HIGHPASS_START + len(HIGHPASS))
        bands = np.zeros((*low.shape[:-1], length + last - first))
        for half, filter_taps, begin in ((low, LOWPASS, LOWPASS_START), (high, HIGHPASS, HIGHPASS_START)):
            for number, tap in enumerate(filter_taps):
                at = begin - first + number
                bands[..., at : at + length + 1 : 2] += tap * half
        start = 2 * start + first
    taps = np.zeros((*weight.shape[:-1], 8 * 2**levels))
    begin = start + 4 * 2**levels
    taps[..., begin : begin + bands.shape[-1]] = bands[..., 0, :]
    return taps


def pitch(latents: int) -> int:
    """Columns of the matrices for K latents: a multiple of what a program of the kernel takes."""
    return 16 if latents <= 16 else 32 if latents <= 32 else -(-latents // 64) * 64


def window_blocks(levels: int) -> int:
    """Blocks of `TILE_SAMPLES` along an axis that a tile's filters meet: the tile lies in their middle.

    The filters reach 4 (2^J - 1) samples before a tile, and less behind it.
    """
    return 1 + max(1, math.ceil(2 * 4 * (2**levels - 1) / TILE_SAMPLES))


def _axis_matrix(levels: int) -> np.ndarray:
    """float64 (TILE, window): coefficients of a tile from the samples of its window, position by position."""
    block, reach = block_operator(levels, TILE_SAMPLES // 2**levels)
    before = (window_blocks(levels) - 1) * TILE_SAMPLES // 2
    matrix = np.zeros((TILE_SAMPLES, window_blocks(levels) * TILE_SAMPLES))
    # Both are centered on the tile; what lies outside the narrower is zero.
    skip, lead = max(0, reach - before), max(0, before - reach)
    width = block.shape[1] - 2 * skip
    assert np.abs(block[:, :skip]).sum() + np.abs(block[:, skip + width :]).sum() < 1e-9
    matrix[:, lead : lead + width] = block[:, skip : skip + width]
    return matrix


def _scaled_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, …) with each latent's largest in 1024 … 2048, and the exponents (K,) of 2 that undo it."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(1)
    exponent = np.where((largest > 0) & np.isfinite(largest), np.frexp(largest)[1] - 11, 0)
    return np.ldexp(weight, -exponent[:, None, None]), exponent


def _companding(
    bits: int, exponent: np.ndarray, bias: np.ndarray, units: dict[str, float], offsets: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`scale` and `shift` of `GpuOperators`; `units` of a signal make 1.0, `offsets` are added to the bias."""
    deviation = companding_scale(bits) * math.sqrt(2)
    scale = {kind: _padded(np.ldexp(1.0, exponent) / (unit * deviation)) for kind, unit in units.items()}
    shift = {kind: _padded((bias.astype(np.float64) + offsets.get(kind, 0.0)) / deviation) for kind in units}
    return scale, shift


def _padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values, (0, pitch(len(values)) - len(values))).astype(np.float32)


def _pitched(matrix: np.ndarray) -> np.ndarray:
    latents = matrix.shape[-1]
    return np.pad(matrix, [(0, 0)] * (matrix.ndim - 1) + [(0, pitch(latents) - latents)])


def _halves(matrix: np.ndarray) -> np.ndarray:
    """float16 (2, …), contiguous: a matrix of float64 as the sum of two."""
    high = matrix.astype(np.float16)
    return np.ascontiguousarray(np.stack([high, (matrix - high).astype(np.float16)]))
