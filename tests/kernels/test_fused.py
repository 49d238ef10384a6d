"""The compiled encoder, compared with matrices in float64 and with the plain path in torch."""

import ctypes
import mmap
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from walloc_cdl.kernels.cpu import fused
from walloc_cdl.kernels.cpu.fused import FusedEncoder
from walloc_cdl.kernels.cpu.quantize import CompandedCodes, code_search
from walloc_cdl.kernels.filters import analysis_matrix, band_order
from walloc_cdl.kernels.packets import packet_encode
from walloc_cdl.spec import code_limit, companded_limit, companding_scale


def random_encoder(channels: int, levels: int, latents: int, dimensions: int, bits: int = 8, seed: int = 0):
    """Return an encoder with random weights whose codes span their range, its weight and its bias."""
    rng = np.random.default_rng(seed)
    bands = channels * 2 ** (levels * dimensions)
    weight = (rng.normal(size=(latents, bands)) * companding_scale(bits) * 6 / np.sqrt(bands)).astype(np.float32)
    bias = rng.normal(size=latents).astype(np.float32)
    return FusedEncoder(weight, bias, levels=levels, dimensions=dimensions, codes=CompandedCodes(bits)), weight, bias


def exact_codes(signal: np.ndarray, weight, bias, levels: int, dimensions: int, bits: int = 8) -> np.ndarray:
    """Return companded values before rounding, computed by matrices in float64, as stored: code + 2^(bits-1)."""
    x = signal / 255 - 0.5 if signal.dtype == np.uint8 else signal.astype(np.float64)
    num = 2**levels
    if dimensions == 1:
        bands = np.einsum("os,bcs->bco", analysis_matrix(x.shape[2], levels), x)
        bands = bands.reshape(*x.shape[:2], -1, num).transpose(0, 1, 3, 2).reshape(len(x), -1, x.shape[2] // num)
        z = np.einsum("kb,nbt->nkt", weight.astype(np.float64), bands) + bias[:, None]
    else:
        down, across = analysis_matrix(x.shape[2], levels), analysis_matrix(x.shape[3], levels)
        bands = np.einsum("os,bcsw,pw->bcop", down, x, across, optimize=True)
        grid = bands.reshape(*x.shape[:2], x.shape[2] // num, num, x.shape[3] // num, num)
        grid = grid.transpose(0, 1, 3, 5, 2, 4).reshape(*x.shape[:2], num * num, *grid.shape[2:5:2])
        grid = grid[:, :, band_order(levels)].reshape(len(x), -1, *grid.shape[3:])
        z = np.einsum("kb,nbhw->nkhw", weight.astype(np.float64), grid) + bias[:, None, None]
    companded = companded_limit(bits) * torch.erf(torch.from_numpy(z / (companding_scale(bits) * 2**0.5))).numpy()
    return companded + code_limit(bits) + 1


def assert_rounded(codes: np.ndarray, exact: np.ndarray) -> None:
    """Assert that every code is nearest to the exact value, unless that is halfway between codes within float32."""
    assert codes.dtype == np.uint8
    assert codes.shape == exact.shape
    assert np.abs(codes - exact).max() < 0.502
    assert (codes != np.round(exact)).sum() <= 2 + 1e-3 * codes.size


CASES = [
    *[(2, channels, levels, shape) for channels in (1, 3) for levels in (1, 2, 3) for shape in ((8, 8), (24, 40))],
    (2, 2, 4, (32, 48)),
    (2, 9, 3, (16, 16)),
    *[(1, channels, levels, (256 * 3,)) for channels in (1, 2) for levels in (1, 3, 5, 8)],
]


@pytest.mark.parametrize(("dimensions", "channels", "levels", "shape"), CASES)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_codes_are_those_of_float64_matrices(dimensions, channels, levels, shape, kind):
    rng = np.random.default_rng(1)
    signal = rng.integers(0, 256, (3, channels, *shape), dtype=np.uint8)
    if kind == "float32":
        signal = (signal / 255 - 0.5).astype(np.float32)
    encoder, weight, bias = random_encoder(channels, levels, 5, dimensions)
    assert_rounded(encoder.encode(signal), exact_codes(signal, weight, bias, levels, dimensions))


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_all_bits_over_the_whole_range_of_latents(bits):
    """Weights of zero and biases that exceed both ends of the companding, so that each latent is a bias."""
    values = np.linspace(-8, 8, 4001, dtype=np.float32) * np.float32(companding_scale(bits))
    encoder = FusedEncoder(np.zeros((4001, 4)), values, levels=1, dimensions=2, codes=CompandedCodes(bits))
    codes = encoder.encode(np.zeros((1, 1, 2, 2), np.uint8))[0, :, 0, 0]
    companded = companded_limit(bits) * torch.erf(torch.from_numpy(values).double() / (companding_scale(bits) * 2**0.5))
    exact = companded.numpy() + code_limit(bits) + 1
    assert_rounded(codes, exact)
    assert (codes.min(), codes.max()) == (1, 2 * code_limit(bits) + 1)
    assert (np.diff(codes.astype(int)) >= 0).all()


def test_nan_and_infinity_get_a_code():
    encoder = FusedEncoder(np.zeros((3, 4)), [np.nan, np.inf, -np.inf], levels=1, dimensions=2, codes=CompandedCodes(8))
    assert encoder.encode(np.zeros((1, 1, 2, 2), np.uint8)).ravel().tolist() == [1, 255, 1]


def test_the_search_starts_at_or_below_every_code():
    thresholds, cells, lowest, per_unit = code_search(8)
    for latent in np.linspace(lowest, thresholds[254], 100_001, dtype=np.float32)[:-1]:
        cell = int(min((latent - lowest) * per_unit, np.float32(cells.size - 1)))
        assert latent >= thresholds[cells[cell] - 1] or cells[cell] == 1


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    tile=st.integers(1, 6),
    threads=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_tiles_and_threads_change_no_code(height, width, tile, threads, seed):
    encoder, weight, bias = random_encoder(2, 2, 3, 2)
    signal = np.random.default_rng(seed).integers(0, 256, (2, 2, 4 * height, 4 * width), dtype=np.uint8)
    whole = encoder.encode(signal)
    with patch.multiple(fused, TILE_SAMPLES=4 * tile, MIN_POSITIONS=1):
        tiled = encoder.encode(signal, threads)
    exact = exact_codes(signal, weight, bias, 2, 2)
    assert_rounded(tiled, exact)
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled != whole).sum() <= 2 + 1e-3 * whole.size


def test_long_lines_are_encoded_in_tiles_too():
    encoder, weight, bias = random_encoder(2, 3, 4, 1)
    signal = (np.random.default_rng(0).random((1, 2, 8 * 9001), dtype=np.float32) - 0.5).astype(np.float32)
    codes = encoder.encode(signal, 2)
    mixed = torch.from_numpy(signal).double()
    matrix = torch.from_numpy(analysis_matrix(8 * 64, 3))
    # The center of a stretch depends on that stretch only, so it is compared without the margins of 5 positions.
    for start in (100, 4090, 4500, 8900):
        stretch = mixed[:, :, 8 * start : 8 * (start + 64)]
        bands = (stretch @ matrix.T).unflatten(2, (64, 8)).transpose(2, 3).flatten(1, 2).numpy()
        z = np.einsum("kb,nbt->nkt", weight.astype(np.float64), bands) + bias[:, None]
        exact = companded_limit(8) * torch.erf(torch.from_numpy(z / (companding_scale(8) * 2**0.5))).numpy() + 128
        assert_rounded(codes[:, :, start + 5 : start + 59], exact[:, :, 5:59])


@settings(max_examples=40, deadline=None)
@given(
    positions=st.integers(1, 90),
    piece=st.integers(1, 9),
    levels=st.integers(1, 6),
    seed=st.integers(0, 9),
    data=st.data(),
)
def test_pieces_of_lines_change_no_code(positions, piece, levels, seed, data):
    encoder, weight, bias = random_encoder(2, levels, 5, 1)
    signal = np.random.default_rng(seed).random((2, 2, positions << levels), dtype=np.float32) - np.float32(0.5)
    with patch.multiple(fused, PIECE_SAMPLES=piece << levels, MIN_POSITIONS=1):
        codes = encoder.encode(signal, data.draw(st.integers(1, 3)))
    assert_rounded(codes, exact_codes(signal, weight, bias, levels, 1))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_earlier_signals_do_not_affect_the_codes(dimensions):
    """Scratch memory is reused, and then holds other numbers, including NaN."""
    encoder, _, _ = random_encoder(1, 3, 5, dimensions)
    small, large = ((1, 1, *[side] * dimensions) for side in (88, 136))
    signal = np.random.default_rng(0).random(small, dtype=np.float32) - np.float32(0.5)
    expected = encoder.encode(signal)
    for disturbing in (np.nan, np.inf, 1e30):
        encoder.encode(np.full(small, disturbing, np.float32))
        np.testing.assert_array_equal(encoder.encode(signal), expected)
        encoder.encode(np.full(large, disturbing, np.float32))
        np.testing.assert_array_equal(encoder.encode(signal), expected)


@pytest.mark.parametrize("size", ["samples", "rows"])
def test_nothing_is_read_beyond_the_signal(size):
    """The signal ends with a page, and the next page is protected."""
    encoder, _, _ = random_encoder(1, 1, 2, 2)
    shape = (2, 2 * 3) if size == "samples" else (2 * 9, 2)
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    pixels = np.frombuffer(memory, np.uint8, count=page)[page - shape[0] * shape[1] :].reshape(1, 1, *shape)
    protect = ctypes.CDLL(None).mprotect
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert protect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
    try:
        assert encoder.encode(pixels).shape == (1, 2, shape[0] // 2, shape[1] // 2)
    finally:
        protect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 3)


def test_the_plain_path_gives_the_same_codes_except_for_ties():
    encoder, weight, bias = random_encoder(3, 3, 12, 2)
    pixels = torch.randint(0, 256, (40, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = packet_encode(pixels, torch.from_numpy(weight), torch.from_numpy(bias), 3)
    plain = (companded_limit(8) * torch.erf(latents / (companding_scale(8) * 2**0.5))).round() + 128
    codes = encoder.encode(pixels.numpy(), 2)
    assert (codes != plain.numpy()).mean() < 1e-4
    assert np.abs(codes - plain.numpy()).max() <= 1


def test_strides_types_and_alignment_of_the_input_do_not_matter():
    encoder, _, _ = random_encoder(3, 3, 4, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24), dtype=np.uint8)
    expected = encoder.encode(pixels)
    channels_last = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(encoder.encode(channels_last), expected)
    shifted = np.empty(pixels.size + 3, np.uint8)[3:].reshape(pixels.shape)
    shifted[:] = pixels
    np.testing.assert_array_equal(encoder.encode(shifted), expected)
    as_float = pixels / 255 - 0.5
    np.testing.assert_array_equal(encoder.encode(as_float), encoder.encode(as_float.astype(np.float32)))
