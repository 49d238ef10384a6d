"""Codes of latents with levels, compared with the number of thresholds that are not above them."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.kernels.test_fused import random_encoder
from tests.support.planes import plane_orders
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.cpu.fused import FusedEncoder
from walloc_cdl.kernels.cpu.quantize_levels import LevelCodes
from walloc_cdl.planes.levels import heap_of_thresholds
from walloc_cdl.planes.rows import pack_rows
from walloc_cdl.spec import count_planes


def random_thresholds(bits, rng):
    """Sorted thresholds, some of them equal, float32 (K, 2^max - 1), NaN where a channel has fewer."""
    table = np.full((len(bits), 2 ** max(bits) - 1), np.nan, np.float32)
    for channel, count in enumerate(bits):
        table[channel, : 2**count - 1] = np.sort(rng.normal(size=2**count - 1).round(2))
    return table


def counted(latents, thresholds, bits):
    """The codes of latents (K, …)."""
    codes = [
        np.searchsorted(own[: 2**count - 1], z, side="right")
        for z, own, count in zip(latents, thresholds, bits, strict=True)
    ]
    return np.stack(codes).astype(np.uint8)


@settings(max_examples=100, deadline=None, phases=[Phase.generate])
@given(
    planes=plane_orders(max_channels=4),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    margin=st.integers(0, 4),
    seed=st.integers(0, 9),
)
def test_codes_of_a_tile_count_thresholds(planes, sides, margin, seed):
    rng, bits = np.random.default_rng(seed), count_planes(planes)[1]
    thresholds = random_thresholds(bits, rng)
    height, width = (side + 2 * margin for side in sides)
    pitch = -(-width // 16) * 16
    latents = rng.normal(size=(len(bits), height + 1, pitch)).astype(np.float32).round(2)  # many are thresholds
    latents[:, ::3, ::5] = np.inf
    latents[:, 1::3, ::5] = -np.inf
    around = np.full((2, len(bits), sides[0], sides[1] + 3), 77, np.uint8)
    codes = around[1, :, :, : sides[1]]
    LevelCodes(thresholds, planes).image(latents, codes, margin, margin)
    own = latents[:, margin : margin + sides[0], margin : margin + sides[1]]
    assert np.array_equal(codes, counted(own, thresholds, bits))
    assert (around[1, :, :, sides[1] :] == 77).all()  # nothing is written beside them
    assert (around[0] == 77).all()


@pytest.mark.parametrize("length", [1, 7, 40, 41, 300])
def test_codes_of_a_sequence_count_thresholds(length):
    rng, planes = np.random.default_rng(0), (0, 0, 1, 0, 1, 0, 0, 2)
    bits = count_planes(planes)[1]
    thresholds, own = random_thresholds(bits, rng), -(-length // 8)
    latents = rng.normal(size=(len(bits), own + 1, 8)).astype(np.float32)
    codes = np.empty((len(bits), length), np.uint8)
    LevelCodes(thresholds, planes).sequence(latents, own, codes)
    by_piece = latents[:, :own].transpose(0, 2, 1).reshape(len(bits), -1)[:, :length]
    assert np.array_equal(codes, counted(by_piece, thresholds, bits))


def test_nan_gets_the_lowest_code():
    codes = np.empty((1, 1, 3), np.uint8)
    latents = np.array([np.nan, np.inf, -np.inf], np.float32)
    LevelCodes(np.zeros((1, 255)), (0,) * 8).image(np.resize(latents, (1, 2, 16)), codes, 0, 0)
    assert codes.ravel().tolist() == [0, 255, 0]


def test_a_heap_has_the_thresholds_in_the_order_of_a_search():
    heap = heap_of_thresholds(np.arange(7.0), 3)
    assert heap[1:].tolist() == [3, 1, 5, 0, 2, 4, 6]


@pytest.mark.parametrize("dimensions", [1, 2])
def test_rows_are_the_packed_codes(dimensions):
    rng, planes = np.random.default_rng(0), (0, 0, 1, 0, 1, 2, 2, 2, 2)
    _, weight, bias = random_encoder(2, 2, 3, dimensions)
    thresholds = random_thresholds(count_planes(planes)[1], rng) * 100
    encoder = FusedEncoder(weight, bias, levels=2, dimensions=dimensions, codes=LevelCodes(thresholds, planes))
    for sides in ((4,) * dimensions, (36, 52)[:dimensions], (128,) * dimensions):
        signal = rng.integers(0, 256, (3, 2, *sides), dtype=np.uint8)
        if dimensions == 1:
            signal = (signal / 256 - 0.5).astype(np.float32)
        rows = encoder.encode_rows(signal)
        codes = encoder.encode(signal)
        assert rows.dtype == np.uint8
        assert np.array_equal(rows, pack_rows(codes, planes))
        assert np.array_equal(encoder.encode_rows(signal, 2), rows)
        assert len(encoder.encode_rows(signal[:0])) == 0
        assert len(np.unique(codes)) > 4


def test_companded_codes_have_no_rows():
    encoder, _, _ = random_encoder(1, 1, 2, 2)
    with pytest.raises(CallError, match="no bit planes, so that codes are stored as bytes; call encode"):
        encoder.encode_rows(np.zeros((1, 1, 4, 4), np.uint8))
