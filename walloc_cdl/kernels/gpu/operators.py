"""The matrices of the GPU's encoding kernels: filters and channel mix, as sums of two float16 matrices.

Why products and not lifting on a GPU: every lifting step needs samples of other threads, at a quarter of the rate of
arithmetic or through shared memory, and float32 arithmetic outside the tensor cores limits it to a third of what the
memory allows. So a tile is transformed by two banded products and mixed by a third, on the tensor cores, with every
factor the sum of two float16 numbers: the accuracy of float32 except for two bits, with 26 times the operations of
lifting at 15 times the speed. docs/performance-gpu.md has the counts. The operators are built for the weights of a
codec; torch's version counter tells when to rebuild them (`walloc_cdl.codec.compiled`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from walloc_cdl.kernels.filters import HIGHPASS, HIGHPASS_START, LOWPASS, LOWPASS_START, band_order, block_operator
from walloc_cdl.planes.levels import heap_of_thresholds
from walloc_cdl.spec import companding_scale

TILE_SAMPLES = 64
"""Side of an image tile in samples, which one product of the kernel transforms."""

FLOAT_SCALE = 16.0
"""Factor of float signals in ±0.5, so that both parts of a sample are well within the range of float16."""
FLOAT_LIMIT = 512.0
"""Scaled samples are clamped to this limit, 64 times the range of a signal: float16 ends at 65,504, and five levels
amplify by up to 69."""


@dataclass(frozen=True)
class GpuOperators:
    """The encoding side of a codec for all types of signals, as NumPy arrays that become tensors on a device."""

    levels: int
    dimensions: int
    bits: int
    latents: int
    """Latent channels, K."""
    matrices: dict[str, np.ndarray]
    """float16: `axis` (2, TILE, window) and `mix` (2, C, bands, pitch) of images, `taps` (2, C, 8 · 2^J, pitch) of
    audio; the first index is 0 for the high parts and 1 for the low parts, and the pitch is K or slightly more."""
    scale: dict[str, np.ndarray]
    """float32 (pitch,), by kind of signal (`bytes`, `int16`, `float`): a code is m erf(scale · sum + shift) rounded."""
    shift: dict[str, np.ndarray]
    """float32 (pitch,), by kind of signal; see `scale`."""
    heaps: np.ndarray | None = None
    """float32 (pitch, 2^bits): `heap_of_thresholds` of each latent with levels, whose codes are searched among them in
    place of companding; scale and shift then give the latents themselves."""


def image_operators(
    weight: np.ndarray, bias: np.ndarray, *, levels: int, bits: int, thresholds: np.ndarray | None = None
) -> GpuOperators:
    """Return the operators of a linear layer on pixels in ±0.5.

    `weight` is (K, C · 4^J), over bands in the published order, and `bias` is (K,). `thresholds` (K, 2^bits - 1), NaN
    where a latent has fewer, quantize in place of companding.
    """
    num_bands = 4**levels
    published = weight.astype(np.float64).reshape(len(weight), -1, num_bands)
    natural = np.empty_like(published)
    natural[:, :, band_order(levels)] = published
    mix, exponent = _scaled_rows(natural)
    # A product on the tensor cores has at least 16 terms; the kernel puts zeros between the bands of one level.
    spread = max(1, 16 // num_bands)
    padded = np.zeros((len(weight), mix.shape[1], num_bands * spread))
    padded[:, :, ::spread] = mix
    # A constant signal has only the lowest band.
    gain = natural[:, :, 0].sum(1) * 2.0**levels
    deviation = _deviation(bits, thresholds)
    scale, shift = _companding(deviation, exponent, bias, {"bytes": 255.0, "float": FLOAT_SCALE}, {"bytes": gain / 510})
    return GpuOperators(
        levels=levels,
        dimensions=2,
        bits=bits,
        latents=len(weight),
        matrices={
            "axis": _split_float16(_axis_matrix(levels)),
            "mix": _split_float16(_pitched(padded.transpose(1, 2, 0))),
        },
        scale=scale,
        shift=shift,
        heaps=_heaps(thresholds, bits),
    )


def sequence_operators(
    weight: np.ndarray, bias: np.ndarray, *, levels: int, bits: int, thresholds: np.ndarray | None = None
) -> GpuOperators:
    """Return the operators of a linear layer on samples in ±0.5.

    `weight` is (K, C · 2^J), over bands in the published order, and `bias` is (K,). `thresholds` are those of
    `image_operators`.
    """
    taps, exponent = _scaled_rows(fold_filters(weight.astype(np.float64).reshape(len(weight), -1, 2**levels)))
    deviation = _deviation(bits, thresholds)
    scale, shift = _companding(deviation, exponent, bias, {"int16": 65536.0, "float": FLOAT_SCALE}, {})
    return GpuOperators(
        levels=levels,
        dimensions=1,
        bits=bits,
        latents=len(weight),
        matrices={"taps": _split_float16(_pitched(taps.transpose(1, 2, 0)))},
        scale=scale,
        shift=shift,
        heaps=_heaps(thresholds, bits),
    )


def folded_bytes(latents: int, channels: int, levels: int) -> int:
    """Return the size of the `taps` of `sequence_operators` in bytes."""
    return 2 * 2 * channels * 8 * 2**levels * pitch(latents)


def fold_filters(weight: np.ndarray) -> np.ndarray:
    """Fold the weights of bands (…, 2^J) and the packet filters into taps (…, 8 · 2^J) on the samples of a sequence.

    The first tap belongs to the sample 4 · 2^J before the first sample of the position. The transpose of each level
    combines a low and a high band, from the last level to the first.
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
    """Return the number of columns of the matrices for K latents: a multiple of the latents of one program."""
    return 16 if latents <= 16 else 32 if latents <= 32 else -(-latents // 64) * 64


def window_blocks(levels: int) -> int:
    """Return the number of blocks of `TILE_SAMPLES` along an axis that the filters of a tile, their center, cover.

    The filters reach 4 (2^J - 1) samples before a tile, and less after it.
    """
    return 1 + max(1, math.ceil(2 * 4 * (2**levels - 1) / TILE_SAMPLES))


def _axis_matrix(levels: int) -> np.ndarray:
    """Return the matrix, float64 (TILE, window), from the samples of a window to the coefficients of its tile."""
    block, reach = block_operator(levels, TILE_SAMPLES // 2**levels)
    before = (window_blocks(levels) - 1) * TILE_SAMPLES // 2
    matrix = np.zeros((TILE_SAMPLES, window_blocks(levels) * TILE_SAMPLES))
    # Both are centered on the tile; values outside of the narrower one are zero.
    skip, lead = max(0, reach - before), max(0, before - reach)
    width = block.shape[1] - 2 * skip
    assert np.abs(block[:, :skip]).sum() + np.abs(block[:, skip + width :]).sum() < 1e-9
    matrix[:, lead : lead + width] = block[:, skip : skip + width]
    return matrix


def _scaled_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale the largest weight (K, …) of each latent to 1024 … 2048; also return the exponents (K,) of 2."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(1)
    exponent = np.where((largest > 0) & np.isfinite(largest), np.frexp(largest)[1] - 11, 0)
    return np.ldexp(weight, -exponent[:, None, None]), exponent


def _deviation(bits: int, thresholds: np.ndarray | None) -> float:
    """Return the divisor of latents in the error function of companding, and 1 if there is none."""
    return companding_scale(bits) * math.sqrt(2) if thresholds is None else 1.0


def _heaps(thresholds: np.ndarray | None, bits: int) -> np.ndarray | None:
    if thresholds is None:
        return None
    heaps = np.full((pitch(len(thresholds)), 2**bits), np.nan, np.float32)
    for latent, own in enumerate(thresholds):
        heaps[latent] = heap_of_thresholds(own, bits)
    return heaps


def _companding(
    deviation: float, exponent: np.ndarray, bias: np.ndarray, units: dict[str, float], offsets: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return `scale` and `shift` of `GpuOperators`; a signal of 1.0 is `units`; `offsets` are added to the bias."""
    scale = {kind: _padded(np.ldexp(1.0, exponent) / (unit * deviation)) for kind, unit in units.items()}
    shift = {kind: _padded((bias.astype(np.float64) + offsets.get(kind, 0.0)) / deviation) for kind in units}
    return scale, shift


def _padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values, (0, pitch(len(values)) - len(values))).astype(np.float32)


def _pitched(matrix: np.ndarray) -> np.ndarray:
    latents = matrix.shape[-1]
    return np.pad(matrix, [(0, 0)] * (matrix.ndim - 1) + [(0, pitch(latents) - latents)])


def _split_float16(matrix: np.ndarray) -> np.ndarray:
    """Return a float64 matrix as the sum of two float16 matrices, (2, …), contiguous."""
    high = matrix.astype(np.float16)
    return np.ascontiguousarray(np.stack([high, (matrix - high).astype(np.float16)]))
