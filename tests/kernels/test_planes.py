"""Compiled packing and unpacking of bit planes, compared with the reference in numpy."""

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.planes import plane_orders
from walloc_cdl.kernels.cpu.planes import pack, row_histogram, unpack, unpack_values
from walloc_cdl.planes.rows import pack_rows, plane_bytes, unpack_rows
from walloc_cdl.spec import count_planes

GRIDS = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 90)),
    st.sampled_from([(8, 4), (4, 10), (7, 9), (28, 28), (32, 32)]),
)


def random_codes(planes, grid, count, seed=0):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, 2**bits, (count, *grid), dtype=np.uint8) for bits in count_planes(planes)[1]]
    return np.stack(codes, 1)


def random_table(planes, seed=0):
    return np.random.default_rng(seed).normal(size=(count_planes(planes)[0], 256)).astype(np.float32)


def looked_up(codes, table):
    return np.stack([table[channel][codes[:, channel]] for channel in range(codes.shape[1])], 1)


@settings(max_examples=150, deadline=None, phases=[Phase.generate])
@given(planes=plane_orders(max_channels=6), grid=GRIDS, count=st.integers(0, 3), seed=st.integers(0, 9), data=st.data())
def test_rows_are_those_of_the_reference(planes, grid, count, seed, data):
    codes = random_codes(planes, grid, count, seed)
    rows = pack(codes, planes)
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, pack_rows(codes, planes))
    shown = planes[: data.draw(st.integers(1, len(planes)))]  # a prefix of longer rows, which is not contiguous
    expected = unpack_rows(rows, shown, grid)
    for stored in (rows, rows[:, : len(shown) * plane_bytes(grid)], np.asfortranarray(rows), rows[::-1][::-1]):
        found = unpack(stored, shown, grid)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
    table = random_table(shown, seed)
    values = unpack_values(rows, table, shown, grid)
    assert values.dtype == np.float32
    assert np.array_equal(values, looked_up(expected, table))
    histogram = row_histogram(rows, shown, grid)
    assert histogram.dtype == np.int64
    counts = [np.bincount(expected[:, channel].ravel(), minlength=256) for channel in range(expected.shape[1])]
    assert np.array_equal(histogram, counts)
