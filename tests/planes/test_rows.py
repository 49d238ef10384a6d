"""Stored rows of bit planes, and their prefixes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.planes import plane_orders, spec_of
from walloc_cdl.errors import CallError
from walloc_cdl.planes.rows import pack_rows, plane_bytes, planes_for_bytes, planes_for_rate, row_bytes, unpack_rows
from walloc_cdl.spec import LatentSpec, count_planes

GRIDS = st.one_of(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 70)))


def random_codes(planes, grid, count, seed=0):
    generator = np.random.default_rng(seed)
    bits = count_planes(planes)[1]
    return np.stack([generator.integers(0, 2**b, (count, *grid), np.uint8) for b in bits], 1)


def test_the_layout_of_a_row_is_the_documented_one():
    """Two channels of 2 and 1 bits on a grid of 3 × 3, whose ninth position begins a second byte."""
    codes = np.zeros((1, 2, 3, 3), np.uint8)
    codes[0, 0] = [[2, 0, 0], [0, 3, 0], [0, 0, 1]]
    codes[0, 1] = [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    rows = pack_rows(codes, (0, 1, 0))
    assert rows.tolist() == [[0b00010001, 0, 0b00000011, 0, 0b00010000, 1]]


@given(plane_orders(), GRIDS, st.integers(0, 4))
def test_unpacking_is_the_inverse_of_packing(planes, grid, count):
    codes = random_codes(planes, grid, count)
    rows = pack_rows(codes, planes)
    assert rows.shape == (count, len(planes) * plane_bytes(grid))
    np.testing.assert_array_equal(unpack_rows(rows, planes, grid), codes)


@given(plane_orders(), GRIDS, st.data())
def test_a_prefix_is_the_upper_bits_of_the_codes_and_what_follows_changes_nothing(planes, grid, data):
    stored = data.draw(st.integers(1, len(planes)))
    codes, shown = random_codes(planes, grid, 3), planes[:stored]
    num_channels, bits = count_planes(shown)
    lowered = np.array(count_planes(planes)[1][:num_channels]) - np.array(bits)
    expected = codes[:, :num_channels] >> lowered.reshape(1, -1, *[1] * len(grid)).astype(np.uint8)
    rows = pack_rows(codes, planes)
    prefix = rows[:, : stored * plane_bytes(grid)]
    np.testing.assert_array_equal(unpack_rows(rows, shown, grid), expected)
    np.testing.assert_array_equal(pack_rows(expected, shown), prefix)
    rows[:, prefix.shape[1] :] ^= 255
    np.testing.assert_array_equal(unpack_rows(rows, shown, grid), expected)


def test_budgets_are_rounded_down_to_whole_planes():
    spec = spec_of((0, 0, 1, 0, 2))
    assert row_bytes(spec, (32, 32)) == 5 * 128
    assert [planes_for_bytes(spec, (32, 32), size) for size in (128, 255, 256, 767)] == [1, 1, 2, 5]
    assert [planes_for_rate(spec, rate) for rate in (1 / 64, 0.05, 5 / 64)] == [1, 3, 5]


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda spec: planes_for_bytes(spec, (32, 32), 127), "127 bytes a sample; these latents take 128 to 640"),
        (lambda spec: planes_for_bytes(spec, (32, 32), 768), "768 bytes a sample; these latents take 128 to 640"),
        (lambda spec: planes_for_rate(spec, 1.5), r"1\.5 bits a pixel; these latents take 0\.0156 to 0\.0781"),
        (lambda spec: spec.with_planes(6), "6 bit planes of latents that have 5; give 1 to that many"),
    ],
)
def test_budgets_out_of_range_are_refused_with_the_range(choose, message):
    with pytest.raises(CallError, match=message):
        choose(spec_of((0, 0, 1, 0, 2)))


def test_codes_that_are_stored_as_bytes_have_one_size():
    spec = LatentSpec("0" * 64, "image", 3, 12, 8, 8, "normal")
    assert row_bytes(spec, (32, 32)) == 12_288
    for choose in (lambda: planes_for_bytes(spec, (32, 32), 6144), lambda: planes_for_rate(spec, 0.75)):
        with pytest.raises(CallError, match="stored as bytes, which have one size only"):
            choose()
    with pytest.raises(CallError, match="stored as bytes"):
        spec.with_planes(1)


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ((), "no sequence of 1 to 32,768"),
        ((1,), "bit plane 0 is of channel 1; expected one of 0 to 0"),
        ((0, 2), "bit plane 1 is of channel 2"),
        ((0, True), "bit plane 1 is of channel True"),
        ((0,) * 9, "channel 0 has more than 8 bit planes"),
    ],
)
def test_impossible_orders_are_refused(planes, message):
    with pytest.raises(CallError, match=message):
        count_planes(planes)


def test_a_spec_and_its_planes_agree():
    with pytest.raises(CallError, match="bit planes with companding 'normal'"):
        LatentSpec("0" * 64, "image", 3, 12, 8, 8, "normal", planes=(0,))
    with pytest.raises(CallError, match="no bit planes with companding 'levels'"):
        LatentSpec("0" * 64, "image", 3, 12, 8, 8, "levels")
    with pytest.raises(CallError, match="2 latent channels of up to 1 bits, but bit planes of 1 channels of up to 2"):
        LatentSpec("0" * 64, "image", 3, 2, 8, 1, "levels", planes=(0, 0))
