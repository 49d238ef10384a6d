"""Lifting, loading and mixing of vectors, compared with matrices and numpy."""

import numpy as np
import pytest
from numba import njit

from walloc_cdl.kernels.cpu.lifting import address_of, lift_levels, phase_of_band, scale_of_band
from walloc_cdl.kernels.cpu.simd import lifting, loads, vectors
from walloc_cdl.kernels.cpu.simd import mix as linear_mix
from walloc_cdl.kernels.filters import analysis_matrix

WIDTH = vectors.WIDTH


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("positions", [1, 2, 3, 7])
def test_lifting_is_the_packet_transform_of_every_line(levels, positions):
    num = 2**levels
    lines = np.random.default_rng(levels).normal(size=(num * positions, WIDTH)).astype(np.float32)
    buffers = np.full((2, num, positions + 1, WIDTH), np.nan, np.float32)
    buffers[0, :, :-1] = lines.reshape(positions, num, WIDTH).transpose(1, 0, 2)
    bands = buffers[lift_levels(buffers, positions, 0)]
    assert np.isnan(bands[:, -1]).all(), "only the positions are written"
    expected = np.einsum("os,si->oi", analysis_matrix(num * positions, levels), lines.astype(np.float64))
    found = bands[phase_of_band(levels), :-1] * scale_of_band(levels)[:, None, None]
    np.testing.assert_allclose(found.transpose(1, 0, 2).reshape(-1, WIDTH), expected, atol=5e-5)


def test_lifting_can_continue_from_a_level():
    rng = np.random.default_rng(0)
    whole, parts = np.zeros((2, 2, 8, 5, WIDTH), np.float32)
    whole[0] = parts[0] = rng.normal(size=(8, 5, WIDTH))
    last = whole[lift_levels(whole, 5, 0)]
    first = np.zeros((2, 8, 5, WIDTH), np.float32)
    first[0] = parts[0]
    lift_one(first)
    np.testing.assert_array_equal(first[lift_levels(first, 5, 1)], last)


@njit
def lift_one(buffers):
    stride, line = buffers.strides[1], buffers.strides[2]
    begin, end = address_of(buffers[0]), address_of(buffers[1])
    lifting.lift_eight(begin, stride, line, end, stride, line, buffers.shape[2], 1)


@njit
def load_bytes(pixels, step, out):
    begin, end, stride = address_of(pixels), address_of(out), out.strides[0]
    if len(out) == 2:
        loads.load_two(begin, step, end, stride)
    elif len(out) == 4:
        loads.load_four(begin, step, end, stride)
    else:
        loads.load_eight(begin, step, end, stride)


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("gap", [0, 3])
def test_bytes_become_phases(count, gap):
    pixels = np.random.default_rng(count).integers(0, 256, (WIDTH, count + gap), dtype=np.uint8)
    out = np.zeros((count, WIDTH + 1), np.float32)
    load_bytes(pixels, count + gap, out)
    np.testing.assert_array_equal(out[:, :WIDTH], pixels[:, :count].T - np.float32(127.5))
    assert not out[:, WIDTH].any()


@njit
def transpose(values, out):
    loads.transpose_8x8(address_of(values), values.strides[0], address_of(out), out.strides[0])


def test_eight_vectors_are_transposed():
    values, out = np.random.default_rng(0).random((WIDTH, 11), dtype=np.float32), np.zeros((WIDTH, 9), np.float32)
    transpose(values, out)
    np.testing.assert_array_equal(out[:, :WIDTH], values[:, :WIDTH].T)
    assert not out[:, WIDTH].any()


@njit
def mix(bands, weight, latents):
    begin, end = address_of(bands), address_of(latents)
    linear_mix.mix_block(
        begin,
        bands.strides[0],
        len(bands),
        address_of(weight),
        weight.strides[0],
        end,
        latents.strides[0],
        latents.strides[1],
    )


@pytest.mark.parametrize("count", [1, 8, 27])
def test_a_block_is_mixed(count):
    rng = np.random.default_rng(count)
    bands = rng.normal(size=(count, 3, WIDTH)).astype(np.float32)
    weight = rng.normal(size=(count, linear_mix.LATENTS_PER_BLOCK + 2)).astype(np.float32)
    before = rng.normal(size=(linear_mix.LATENTS_PER_BLOCK + 1, 3, WIDTH + 5)).astype(np.float32)
    latents = before.copy()
    mix(bands, weight, latents)
    products = np.einsum("bk,bpi->kpi", weight[:, : linear_mix.LATENTS_PER_BLOCK].astype(np.float64), bands[:, :2])
    np.testing.assert_allclose(latents[:-1, :2, :WIDTH], before[:-1, :2, :WIDTH] + products, atol=1e-5)
    latents[:-1, :2, :WIDTH] = before[:-1, :2, :WIDTH]
    np.testing.assert_array_equal(latents, before)
